# One case a line: see ovsdb_client.rs.

# In the background, with a control socket.
back a lock unix:db.sock kk; tell a list-commands | grep -v vlog; lines a 1; tell a lock; tell a steal; tell a unlock; tell a lock a b; tell a exit x; tell a exit; gone a
back a lock unix:db.sock kk; back b lock unix:db.sock kk; lines b 1; tell a unlock kk; lines a 2; lines b 3; tell a steal kk; lines a 3; lines b 5; tell b unlock kk; lines b 6; tell a exit; gone a
back a steal unix:db.sock kk; back b steal unix:db.sock kk; lines a 3; lines b 1; tell b unlock kk; lines b 2; tell a lock mm; lines a 4
back a lock unix:db.sock kk; tell a unlock nope; tell a lock kk; tell a lock '9 d'; tell a lock ''; tell a lock mm; lines a 2
back a --pretty lock unix:db.sock kk; lines a 1
back a lock unix:db.sock kk; kill -9 $(cat pid); gone a; lines a 1
back a monitor unix:db.sock ordinals single n s; tell a list-commands | grep -v vlog; lines a 3; change "$insert"; lines a 7; tell a exit; gone a
back a monitor-cond unix:db.sock ordinals '[["n","==",10]]' single n s; change "$insert"; lines a 3; tell a ovsdb-client/cond_change single '[["n","==",1]]'; lines a 8; tell a ovsdb-client/cond_change single '[false]'; lines a 12; tell a ovsdb-client/cond_change single '[true]'; lines a 17
back a monitor-cond-since unix:db.sock ordinals '[["n","==",10]]' single n; lines a 1; change "$insert"; lines a 4; tell a ovsdb-client/cond_change single '[]'; lines a 8
back a monitor-cond unix:db.sock ordinals '[["n","==",10]]' single n; for c in '[' '[["x"]]' '[["x","==",3]]' '{}' 3 '"x"' ''; do tell a ovsdb-client/cond_change single "$c"; done; tell a ovsdb-client/cond_change nope '[]'; tell a ovsdb-client/cond_change; tell a ovsdb-client/cond_change single; tell a ovsdb-client/cond_change single a b; change "$insert"; lines a 3
back a monitor unix:db.sock ordinals single n; tell a ovsdb-client/unblock; tell a ovsdb-client/block; tell a ovsdb-client/block; tell a ovsdb-client/block x; change "$insert"; change "$delete"; lines a 3; tell a ovsdb-client/unblock; lines a 11; tell a ovsdb-client/block; tell a exit; gone a
back a monitor unix:db.sock ordinals single n; kill -9 $(cat pid); gone a; lines a 4
back a monitor-cond unix:db.sock ordinals '[true]' single n; tell a ovsdb-client/block; kill -9 $(cat pid); tell a ovsdb-client/cond_change single '[]'; tell a ovsdb-client/unblock; gone a; lines a 4
back a monitor unix:db.sock ordinals nope
back a transact unix:db.sock "[\"ordinals\",$wait10]"; ls *.pid; lines a 0; change "$insert"; gone a; lines a 1
back a query unix:db.sock "[\"ordinals\",$wait10]"; ls *.pid; change "$insert"; gone a; lines a 1
back a transact unix:db.sock '["nope"]'; gone a; lines a 1; back b transact unix:db.sock '['; lines b 1; back c transact unix:db.sock '["ordinals"]'; gone c; lines c 1
back a transact unix:db.sock "[\"ordinals\",$wait10]"; kill $(cat pid); gone a; lines a 1
for c in list-dbs get-schema-version 'dump unix:db.sock ordinals single n' 'wait unix:db.sock ordinals added'; do back a $c; head -n 1 a.out | grep -v reconnect; ls *.pid; done
# A conversion meanwhile.
sed s/1.2.3/1.2.4/ ordinals.ovsschema > o2; for o in --db-change-aware --no-db-change-aware --timeout=9; do for c in transact query; do back a $o $c unix:db.sock "[\"ordinals\",$wait10]"; client convert unix:db.sock o2; gone a; lines a 1; done; done
sed s/1.2.3/1.2.4/ ordinals.ovsschema > o2; for o in --no-db-change-aware --db-change-aware; do back a $o monitor unix:db.sock ordinals single n; lines a 3; client convert unix:db.sock o2; gone a; lines a 4; done
# What is looked at first.
client transact unix:/nope '['
client query unix:/nope '[]'
client convert unix:/nope missing
client needs-conversion unix:/nope missing
client transact unix:/nope a b
client transact unix:db.sock,unix:db.sock '["nope"]' 2>&1 | cut -d'|' -f3-
client query unix:db.sock,unix:/nope '["ordinals"]' 2>&1 | cut -d'|' -f3-
