# One invocation, or several, a line: see ovsdb_client.rs.

client dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client list-tables | sort
client list-columns unix:db.sock ordinals | sort
client dump empty
client -f list dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f list dump empty
client -f table dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f table list-tables | sort
client -f table list-columns unix:db.sock ordinals | sort
client -f table dump empty
client -f html dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f html dump empty
client -f csv dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f csv list-tables | sort
client -f csv list-columns unix:db.sock ordinals | sort
client -f csv dump empty
client -f json dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f json dump empty
client -f json --pretty dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f json --pretty dump empty
client --bare dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --bare dump empty
client -d json dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -d json dump empty
client -d bare dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -d bare list-tables | sort
client -d bare list-columns unix:db.sock ordinals | sort
client -d bare dump empty
client -d string -f csv dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -d string -f csv list-tables | sort
client -d string -f csv list-columns unix:db.sock ordinals | sort
client -d string -f csv dump empty
client -d json -f html dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -d json -f html dump empty
client --no-headings dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --no-headings list-tables | sort
client --no-headings list-columns unix:db.sock ordinals | sort
client --no-headings dump empty
client --no-headings -f csv dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --no-headings -f csv list-tables | sort
client --no-headings -f csv list-columns unix:db.sock ordinals | sort
client --no-headings -f csv dump empty
client --no-headings -f html dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --no-headings -f html dump empty
client --no-heading -f json dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --no-heading -f json dump empty
client --max-column-width=5 dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --max-column-width=5 list-tables | sort
client --max-column-width=5 list-columns unix:db.sock ordinals | sort
client --max-column-width=5 dump empty
client --max-column-width=5 -f list dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --max-column-width=5 -f list dump empty
client --max-column-width=0 dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --max-column-width=0 list-tables | sort
client --max-column-width=0 list-columns unix:db.sock ordinals | sort
client --max-column-width=0 dump empty
client --max-column-width=x dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --max-column-width=x list-tables | sort
client --max-column-width=x list-columns unix:db.sock ordinals | sort
client --max-column-width=x dump empty
client -f nope dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f nope list-tables | sort
client -f nope list-columns unix:db.sock ordinals | sort
client -f nope dump empty
client -d nope dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -d nope list-tables | sort
client -d nope list-columns unix:db.sock ordinals | sort
client -d nope dump empty
client --format=list --data=json dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --format=list --data=json dump empty
client --timestamp -f html dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --timestamp -f html dump empty
client --pretty dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --pretty dump empty
client --bare -f table dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client --bare -f table dump empty
client -f table -d bare --no-headings dump unix:db.sock ordinals ordinals number name tags opts ok r eph
client -f table -d bare --no-headings list-tables | sort
client -f table -d bare --no-headings list-columns unix:db.sock ordinals | sort
client -f table -d bare --no-headings dump empty
client list-dbs
client list-dbs unix:db.sock
client list-dbs unix:db.sock ordinals
client list-dbs ordinals
client list-dbs unix:db.sock nope
client list-dbs nope
client list-dbs unix:db.sock _Server
client list-dbs _Server
client list-dbs unix:nosock
client list-dbs unix:db.sock ordinals x y z w
client --pretty list-dbs
client --timestamp list-dbs
client get-schema
client get-schema unix:db.sock
client get-schema unix:db.sock ordinals
client get-schema ordinals
client get-schema unix:db.sock nope
client get-schema nope
client get-schema unix:db.sock _Server
client get-schema _Server
client get-schema unix:nosock
client get-schema unix:db.sock ordinals x y z w
client --pretty get-schema
client --timestamp get-schema
client get-schema-version
client get-schema-version unix:db.sock
client get-schema-version unix:db.sock ordinals
client get-schema-version ordinals
client get-schema-version unix:db.sock nope
client get-schema-version nope
client get-schema-version unix:db.sock _Server
client get-schema-version _Server
client get-schema-version unix:nosock
client get-schema-version unix:db.sock ordinals x y z w
client --pretty get-schema-version
client --timestamp get-schema-version
client get-schema-cksum
client get-schema-cksum unix:db.sock
client get-schema-cksum unix:db.sock ordinals
client get-schema-cksum ordinals
client get-schema-cksum unix:db.sock nope
client get-schema-cksum nope
client get-schema-cksum unix:db.sock _Server
client get-schema-cksum _Server
client get-schema-cksum unix:nosock
client get-schema-cksum unix:db.sock ordinals x y z w
client --pretty get-schema-cksum
client --timestamp get-schema-cksum
client list-tables unix:db.sock | sort
client list-tables unix:db.sock ordinals | sort
client list-tables ordinals | sort
client list-tables unix:db.sock nope | sort
client list-tables nope | sort
client list-tables unix:db.sock _Server | sort
client list-tables _Server | sort
client list-tables unix:nosock | sort
client list-tables unix:db.sock ordinals x y z w | sort
client --timestamp list-tables | sort
client list-columns | sort
client list-columns unix:db.sock | sort
client list-columns ordinals | sort
client list-columns unix:db.sock nope | sort
client list-columns nope | sort
client list-columns unix:db.sock _Server | sort
client list-columns _Server | sort
client list-columns unix:nosock | sort
client list-columns unix:db.sock ordinals x y z w | sort
client --timestamp list-columns | sort
client dump
client dump unix:db.sock
client dump unix:db.sock ordinals
client dump ordinals
client dump unix:db.sock nope
client dump nope
client dump unix:db.sock _Server
client dump _Server
client dump unix:nosock
client dump unix:db.sock ordinals x y z w
client --pretty dump
client --timestamp dump
client backup
client backup unix:db.sock
client backup unix:db.sock ordinals
client backup ordinals
client backup unix:db.sock nope
client backup nope
client backup unix:nosock
client backup unix:db.sock ordinals x y z w
client --pretty backup
client --timestamp backup
client list-columns unix:db.sock ordinals things | sort
client list-columns things | sort
client list-columns ordinals nosuch | sort
client list-columns _Server Database | sort
client dump things
client dump things lim t
client dump nosuch
client dump things nosuch
client dump ordinals things
client dump things _uuid
client dump _Server Database name connected
client transact '["ordinals"]'
client transact '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]'
client transact '["ordinals",{"op":"select","table":"nosuch","where":[]}]'
client transact '["nodb",{"op":"select","table":"x","where":[]}]'
client transact '['
client transact '{}'
client transact '"x"'
client transact '[]'
client transact '[1]'
client transact '["ordinals",1]'
client transact '["ordinals",{"op":"zzz"}]'
client transact '["ordinals",{"op":"abort"}]'
client transact '["ordinals",{"op":"comment","comment":"x"}]'
client transact '["ordinals",{"op":"wait","table":"ordinals","where":[["number","==",7]],"columns":["number"],"until":"==","rows":[{"number":7}],"timeout":0}]'
client transact ''
client transact nojson
client transact '["ordinals",{"op":"update","table":"ordinals","where":[],"row":{"nope":1}}]'
client transact unix:db.sock '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]'
client --pretty transact '["ordinals",{"op":"select","table":"ordinals","where":[["number","==",1]],"columns":["number","name"]}]'
client transact
client transact unix:db.sock
client transact unix:db.sock '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]' x
client -f json transact '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]'
client query '["ordinals"]'
client query '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]'
client query '["ordinals",{"op":"select","table":"nosuch","where":[]}]'
client query '["nodb",{"op":"select","table":"x","where":[]}]'
client query '['
client query '{}'
client query '"x"'
client query '[]'
client query '[1]'
client query '["ordinals",1]'
client query '["ordinals",{"op":"zzz"}]'
client query '["ordinals",{"op":"abort"}]'
client query '["ordinals",{"op":"comment","comment":"x"}]'
client query '["ordinals",{"op":"wait","table":"ordinals","where":[["number","==",7]],"columns":["number"],"until":"==","rows":[{"number":7}],"timeout":0}]'
client query ''
client query nojson
client query '["ordinals",{"op":"update","table":"ordinals","where":[],"row":{"nope":1}}]'
client query unix:db.sock '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]'
client --pretty query '["ordinals",{"op":"select","table":"ordinals","where":[["number","==",1]],"columns":["number","name"]}]'
client query
client query unix:db.sock
client query unix:db.sock '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]' x
client -f json query '["ordinals",{"op":"select","table":"ordinals","where":[["number","<",2]],"columns":["number","name"]}]'
client -t 1 wait ordinals added
client -t 1 wait nodb added
client -t 1 wait _Server added
client -t 1 wait ordinals connected
client -t 1 wait nodb connected
client -t 1 wait _Server connected
client -t 1 wait ordinals removed
client -t 1 wait nodb removed
client -t 1 wait _Server removed
client -t 1 wait ordinals zzz
client -t 1 wait nodb zzz
client -t 1 wait _Server zzz
client wait
client wait ordinals
client wait unix:db.sock ordinals added
client wait unix:nosock ordinals added
client wait unix:db.sock ordinals added x
client convert
client convert nosuch
client convert unix:db.sock nosuch
client needs-conversion ordinals.ovsschema
client needs-conversion v2.ovsschema
client needs-conversion nosuch
client needs-conversion unix:db.sock v2.ovsschema
client needs-conversion /dev/null
client convert /dev/null
client 
client nosuch
client --nosuch
client list
client -t 0 list-dbs
client -t x list-dbs
client -t -1 list-dbs
client --timeout=5 list-dbs
client --timeout list-dbs
client -Z
client -f
client --form=csv list-tables | sort
client --no-leader-only list-dbs
client --leader-only dump empty
client --no-db-change-aware list-dbs
client --db-change-aware list-dbs
client list-dbs foo:bar
client list-dbs tcp:127.0.0.1:1
client -vzz list-dbs
client --log-file=/nosuch/x list-dbs
client --pidfile=pp list-dbs
client list-dbs -- x
client dump unix:nosock,unix:db.sock ordinals empty
client list-dbs unix:nosock,unix:nosock2
client list-tables unix:nosock,unix:nosock2 | sort
client --no-leader-only list-tables unix:nosock,unix:nosock2 | sort
client list-tables unix:db.sock,unix:db.sock | sort
client list-dbs unix:db.sock,unix:db.sock
client restore
client -t 1 monitor
client -t 1 monitor-cond
client -t 1 monitor-cond '[]'
client -t 1 monitor-cond-since
client -t 1 monitor-cond-since '[]'
client -t 1 monitor nosuch
client -t 1 monitor ordinals nosuch
client -t 1 monitor ordinals number,nosuch
client -t 1 monitor ordinals number number
client -t 1 monitor ordinals number,number
client -t 1 monitor ALL x
client -t 1 monitor-cond '[' ordinals
client -t 1 monitor-cond '[]' nosuch
client -t 1 monitor-cond '[]' ordinals nosuch
client -t 1 monitor-cond '[1]' ordinals
client -t 1 monitor-cond '[["number","<",1]]' ALL
client -t 1 monitor-cond '[["nosuch","<",1]]' ordinals
client -t 1 monitor-cond-since x '[]' ordinals
client -t 1 monitor-cond-since 00000000-0000-0000-0000-000000000000 '[]' nosuch
client -t 1 monitor unix:db.sock nodb ordinals
client -t 1 monitor unix:nosock ordinals
client -t 1 monitor ordinals '!nosuch'
client -t 1 lock
client -t 1 steal
client -t 1 unlock
client -t 1 lock a b c
client -t 1 unlock zz y
client -t 1 lock unix:nosock x
client -t 1 lock 9bad
client -t 1 steal 'a b'

# Several databases, or none.
serve ordinals.db more.db; client list-dbs
serve ordinals.db more.db; client list-tables
serve ordinals.db more.db; client dump more empty
serve ordinals.db more.db; client dump empty
serve ordinals.db more.db; client monitor empty
serve ordinals.db more.db; client get-schema-version more
serve --no-dbs; client list-dbs
serve --no-dbs; client list-tables
serve --no-dbs; client -t 1 wait ordinals removed
serve more.db; client get-schema-cksum

# Monitors.
watch monitor single
watch -f list monitor single
watch -f csv monitor single
watch -f json monitor single
watch -f json --pretty monitor single
watch --no-headings monitor single
watch --bare monitor single
watch -d json monitor single
watch -d bare -f csv monitor single
watch --timestamp monitor single
watch --timestamp -f csv monitor single
watch --timestamp -f list monitor single
watch monitor single n
watch monitor single n,s m
watch monitor single '!initial'
watch monitor single 'n,!insert'
watch monitor single '!modify'
watch monitor single 'n,!delete,!initial' s
watch monitor single _version,n
watch monitor single _uuid
watch monitor empty
watch monitor ordinals '!initial'
watch monitor unix:db.sock ordinals single
watch monitor ordinals empty
watch monitor ALL '!initial'
watch monitor-cond '[]' single
watch monitor-cond '[["n",">",1]]' single
watch monitor-cond '[false]' single
watch monitor-cond '[true]' single n
watch monitor-cond '[["n","==",0],["n","==",10]]' single 'n,!initial'
watch -f json monitor-cond '[["n","<",5]]' single
watch monitor-cond-since '[]' single
watch -f json monitor-cond-since '[]' single n
watch -f list monitor-cond-since '[]' single n
watch -f csv monitor-cond-since '[]' single
watch monitor-cond-since 00000000-0000-0000-0000-000000000000 '[]' single n
watch monitor-cond-since 11111111-2222-3333-4444-555555555555 '[["n",">",1]]' single n
watch monitor-cond-since unix:db.sock ordinals '[]' single 'n,!modify'

# Locks.
WAIT=no; EVENT='timeout 0.5 "$PEER" steal x; sleep 0.5'; upto lock x
WAIT=no; EVENT='timeout 0.5 "$PEER" steal x; sleep 0.5'; upto --pretty steal x
WAIT=no; EVENT=:; upto unlock x
WAIT=no; EVENT='ask exit'; upto lock x

# What happens to the database.
EVENT='"$PEER" convert v2.ovsschema'; upto monitor single
EVENT='"$PEER" convert v2.ovsschema'; upto --no-db-change-aware monitor single
EVENT='"$PEER" convert v2.ovsschema'; upto monitor-cond-since '[]' single
EVENT='ask ovsdb-server/remove-db ordinals'; upto monitor single
EVENT='ask ovsdb-server/remove-db ordinals'; upto --no-db-change-aware monitor-cond '[]' single
WAIT=no; EVENT='ask ovsdb-server/remove-db ordinals'; upto wait unix:db.sock ordinals removed
WAIT=no; EVENT='ask ovsdb-server/add-db "$PWD/more.db"'; upto wait unix:db.sock more added
client convert v2.ovsschema; client get-schema-version; client needs-conversion v2.ovsschema; client dump

# In the background.
client --detach --pidfile="$PWD/cpid" --no-chdir monitor single n > out; change "$insert"; sleep 0.3; "$APPCTL" -t "$PWD"/ovsdb-client.*.ctl exit; sleep 0.5; cat out; ls cpid ovsdb-client.*
client --detach --pidfile="$PWD/cpid" --no-chdir lock x; sleep 0.2; kill $(cat cpid); sleep 0.3; ls cpid
client --pidfile="$PWD/cpid" list-dbs; ls cpid

# Backups, ours and theirs, read by either.
client backup > b; "$TOOL" query b '["ordinals",{"op":"select","table":"ordinals","where":[],"columns":["number","name","tags","opts","ok","r"]},{"op":"select","table":"things","where":[],"columns":["t","lim"]}]'
client backup > b; change '{"op":"delete","table":"ordinals","where":[]}'; client restore < b; client dump ordinals ordinals number name ok opts r tags eph; client dump things t lim
serve ordinals.db; "$PEER" backup > b; change '{"op":"delete","table":"ordinals","where":[["number","==",1]]}'; client restore < b; client dump things t lim; client dump ordinals number name ok opts r tags
client backup > b; "$PEER" restore < b; "$PEER" dump things t lim
cp ordinals.db b; client restore < b; client dump things t lim
client restore < /dev/null
printf junk > b; client restore < b
client backup > b; head -c -20 b > c; client restore < c 2>&1 | sed 's/[0-9]* bytes starting at offset [0-9]*/BYTES/'
client backup > b; sed 's/"ordinals","/"other","/; 1d' b > c; client restore < c
serve ordinals.db more.db; client backup unix:db.sock more > b; client restore unix:db.sock ordinals < b
serve ordinals.db; "$TOOL" create w v2.ovsschema; client restore < w
serve ordinals.db; "$TOOL" create w v2.ovsschema; client --force restore < w; client dump ordinals number

# Log files and other options of every program.
client --log-file=no/such list-dbs
client -vfoo list-dbs
client --pidfile=no/such list-dbs
