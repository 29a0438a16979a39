# One case a line, run by sh in a directory with the files of setup.sh. `tool` is ovsdb-tool.
tool
tool nonsense
tool --nonsense
tool --more=5 show-log a.db
tool -x
tool list-commands
tool list-commands extra
tool help
tool --help
tool -h
tool help extra
tool --version
tool -V
tool --option
tool --opt
tool --ver
tool --v
tool --rbac-role
tool --election-timer
tool --election-timer=5 db-name a.db
tool --election-timer=x db-name a.db
tool --election-timer=100 db-name a.db
tool --election-timer=600001 db-name a.db
tool --election-timer=0 db-name a.db
tool --cid=x db-name a.db
tool --cid=00000000-0000-0000-0000-000000000000 db-name a.db
tool --cid=11111111-1111-4111-8111-111111111111 db-name a.db
tool -v db-name fresh.db 2>&1 | sed 's/.*|//' | sort | uniq | head -3
tool -vnonsense db-name a.db
tool --verbose=nonsense:x db-name a.db
tool --log-file=x.log db-name a.db; sed 's/^[^|]*|//' x.log
tool --log-file=x.log db-name missing.db; sed 's/^[^|]*|//' x.log
tool --syslog-method=null db-name a.db
tool create
tool create new.db
tool create new.db s.ovsschema; cat new.db; stat -c %a new.db; ls -A | grep new
tool create new.db s.ovsschema extra
tool create a.db s.ovsschema; cmp a.db nothing
tool create nothing s.ovsschema; cat nothing
tool create link.db s.ovsschema
tool create dangling s.ovsschema; ls -A | grep -E 'nowhere|dangling'; cat nowhere
tool create dir s.ovsschema
tool create dir/new.db s.ovsschema; ls -A dir
tool create missing/new.db s.ovsschema
tool create a.db/new.db s.ovsschema
tool create /dev/null s.ovsschema
tool create /dev/full s.ovsschema
tool create '' s.ovsschema
tool create - s.ovsschema; ls -A | grep '^-'
tool create new.db -
tool create new.db - < s.ovsschema
tool create new.db /dev/stdin < s.ovsschema; cat new.db
tool create new.db missing.ovsschema; ls -A | grep new
tool create new.db dir
tool create new.db type.ovsschema
tool create new.db version.ovsschema
tool create new.db member.ovsschema
tool create new.db empty.ovsschema; cat new.db
tool create new.db notables.ovsschema
tool create new.db cut.ovsschema
tool create new.db array.ovsschema
tool create new.db text.ovsschema
tool create new.db trailing.ovsschema
tool create new.db nothing
tool create new.db hello
tool create new.db a.db
tool create new.db spaced.ovsschema; cat new.db
umask 077; tool create new.db s.ovsschema; stat -c %a new.db .new.db.~lock~
umask 0; tool create new.db s.ovsschema; stat -c %a new.db .new.db.~lock~
: > new.db.tmp; tool create new.db s.ovsschema; ls -A | grep new
OVS_DBDIR=. tool create; ls -A | grep conf
cp s.ovsschema vswitch.ovsschema; OVS_DBDIR=. OVS_PKGDATADIR=. tool create; ls -A | grep conf; OVS_DBDIR=. OVS_PKGDATADIR=. tool needs-conversion; OVS_DBDIR=. tool db-version; OVS_PKGDATADIR=. tool schema-version; OVS_DBDIR=. tool query '["s"]'; OVS_DBDIR=. tool transact '["s",{"op":"comment","comment":"x"}]'; OVS_DBDIR=. tool compact; OVS_DBDIR=. OVS_PKGDATADIR=. tool convert; OVS_DBDIR=. tool show-log; OVS_DBDIR=. tool db-name; OVS_DBDIR=. tool db-cksum; OVS_DBDIR=. tool db-cid
OVS_SYSCONFDIR=. tool db-name
tool compact a.db; cat a.db; ls -A | grep '^\.*a\.db'; stat -c %a a.db
tool compact a.db; tool query a.db '["s",{"op":"select","table":"T","where":[]}]'
tool compact a.db x.db; cat x.db; tool show-log -mm x.db; ls -A | grep -E 'x\.db|a\.db'
tool compact a.db a.db
tool compact a.db dir
tool compact a.db fresh.db; cat fresh.db; ls -A | grep fresh
tool compact a.db missing/x.db
tool compact a.db /dev/full
tool compact a.db x.db y.db
tool compact missing.db
tool compact missing.db x.db; ls -A | grep x.db
tool compact fresh.db; cat fresh.db
tool compact link.db; ls -l link.db | sed 's/.*link/link/'; tool show-log a.db
tool compact c.db
tool compact c.db x.db; ls -A | grep x.db
tool compact nothing
tool compact hello
tool compact dir
chmod 604 a.db; tool compact a.db; stat -c %a a.db
echo x > a.db.tmp; tool compact a.db; ls -A | grep a.db
mkdir a.db.tmp; tool compact a.db; ls -A | grep '^\.*a\.db'; tool db-name a.db
mkdir a.db.tmp; tool convert a.db s2.ovsschema
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do b "== $f"; tool compact $f; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool show-log $f; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool show-log -m $f; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool show-log -mm $f; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool -m -m --more show-log $f; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool show-log -mmm $f | wc -l; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do b "== $f"; tool query $f '["s",{"op":"select","table":"T","where":[],"columns":["name","i","set","map"]}]'; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool transact $f '["s",{"op":"comment","comment":"x"}]'; tool show-log $f | tail -1; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool convert $f s2.ovsschema; tool show-log -m $f; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db; do case $f in c.db) continue;; esac; b "== $f"; tool convert $f s2.ovsschema out; tool show-log -m out; rm -f out; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.db nothing hello word dir dangling missing; do for c in db-name db-version db-cksum db-cid db-sid db-local-address db-is-clustered db-is-standalone show-log; do b "== $c $f"; tool $c $f; echo $?; done; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.ovsschema nothing hello a.db dir dangling missing; do for c in schema-name schema-version schema-cksum; do b "== $c $f"; tool $c $f; echo $?; done; done
b() { echo "$1"; echo "$1" >&2; }; for f in *.ovsschema nothing hello; do b "== $f"; tool needs-conversion a.db $f; echo $?; tool needs-conversion c.db $f; done
tool needs-conversion a.db missing
tool needs-conversion missing s.ovsschema
tool needs-conversion a.db s.ovsschema x
tool convert a.db s2.ovsschema; cat a.db; ls -A | grep '^\.*a\.db'
tool convert a.db s2.ovsschema x.db; cat x.db; ls -A | grep x.db; cmp a.db x.db >/dev/null; echo $?
tool convert a.db s2.ovsschema fresh.db; cat fresh.db
tool convert a.db s.ovsschema; tool show-log a.db
tool convert a.db tight.ovsschema; tool show-log a.db; ls -A | grep '^\.*a\.db'
tool convert a.db tight.ovsschema x.db; ls -A | grep x.db
tool convert a.db other.ovsschema; tool show-log -m a.db
tool convert a.db empty.ovsschema; cat a.db
tool convert fresh.db tight.ovsschema; cat fresh.db
tool convert a.db type.ovsschema
tool convert a.db missing
tool convert missing s.ovsschema
tool convert missing s.ovsschema x; ls -A | grep '^x'
tool convert a.db s.ovsschema x y
tool convert c.db s.ovsschema
tool convert a.db s2.ovsschema missing/x
tool compare-versions
tool compare-versions 1.2.3 '<'
tool compare-versions 1.2.3 '<' 1.2.4; echo $?
tool compare-versions 1.2.3 '<=' 1.2.3; echo $?
tool compare-versions 1.2.3 '==' 1.2.3; echo $?
tool compare-versions 1.2.3 '!=' 1.2.3; echo $?
tool compare-versions 1.2.3 '>=' 1.10.3; echo $?
tool compare-versions 1.2.3 '>' 1.10.3; echo $?
tool compare-versions 1.2.3 '=' 1.10.3; echo $?
tool compare-versions 1.2.3 lt 1.10.3; echo $?
tool compare-versions 1.2 '<' 1.10.3; echo $?
tool compare-versions 1.2.3 '<' x; echo $?
tool compare-versions x '<' y; echo $?
tool compare-versions 1.2.3.4 '<' 1.2.3; echo $?
tool compare-versions 01.2.3 '==' 1.2.3; echo $?
tool compare-versions 1.2.3 '==' '1.2.3 '; echo $?
tool compare-versions -- -1.2.3 '==' 1.2.3; echo $?
tool compare-versions 4294967297.2.3 '==' 1.2.3; echo $?
tool compare-versions ' 1.2.3' '==' 1.2.3; echo $?
tool compare-versions +1.2.3 '==' 1.2.3; echo $?
tool query
tool query a.db
tool query a.db x
tool query a.db ''
tool query a.db '{}'
tool query a.db '[]'
tool query a.db '[5]'
tool query a.db '["x"]'
tool query a.db '["s"]'
tool query a.db '["s",5]'
tool query a.db '["s",{}]'
tool query a.db '["s",{"op":"nonsense"}]'
tool query a.db '["s"] x'
tool query a.db '["s",{"op":"insert","table":"U","uuid":"44444444-1111-4111-8111-111111111111","row":{}}]'; tool show-log a.db | tail -1
tool query a.db '["s",{"op":"update","table":"T","where":[],"row":{"i":77}},{"op":"select","table":"T","where":[],"columns":["i"]}]'; tool show-log a.db | tail -1
tool query a.db '["s",{"op":"wait","table":"T","where":[],"columns":["i"],"until":"==","rows":[],"timeout":0}]'
tool query a.db '["s",{"op":"wait","table":"T","where":[],"columns":["i"],"until":"==","rows":[]}]'
tool query a.db '["s",{"op":"wait","table":"T","where":[],"columns":["i"],"until":"==","rows":[],"timeout":10}]'
tool query a.db '["s",{"op":"assert","lock":"l"}]'
tool query a.db '["s",{"op":"abort"}]'
tool query a.db '["s",{"op":"commit","durable":true}]'
tool query a.db '["s",{"op":"delete","table":"U","where":[]}]'
tool query a.db x y
tool query missing '["s"]'
tool query c.db '["s"]'
chmod 400 a.db; tool query a.db '["s"]'
tool --rbac-role=r query a.db '["s",{"op":"insert","table":"T","row":{}}]'
tool --rbac-role=r query a.db '["s",{"op":"update","table":"T","where":[],"row":{"i":3}}]'
tool --rbac-role=r query a.db '["s",{"op":"update","table":"T","where":[],"row":{"r":3}}]'
tool --rbac-role=r transact a.db '["s",{"op":"delete","table":"T","where":[]}]'
tool --rbac-role=none transact a.db '["s",{"op":"update","table":"T","where":[],"row":{"i":3}}]'
tool --rbac-role=none transact a.db '["s",{"op":"select","table":"T","where":[],"columns":["i"]}]'
tool --rbac-role= transact a.db '["s",{"op":"update","table":"T","where":[],"row":{"i":3}}]'
tool --rbac-role=r transact fresh.db '["s",{"op":"update","table":"T","where":[],"row":{"i":3}}]'
tool transact
tool transact a.db x
tool transact a.db '[]'
tool transact a.db '["s",{"op":"insert","table":"U","uuid":"44444444-1111-4111-8111-111111111111","row":{}}]'; tool show-log a.db | tail -1
tool transact a.db '["s",{"op":"update","table":"T","where":[],"row":{"i":77,"map":["map",[["l",3],["z",1]]],"set":["set",["b","zz"]],"eph":"e"}},{"op":"comment","comment":"c"}]'; tail -n 1 a.db; tool show-log -mm a.db
tool transact a.db '["s",{"op":"update","table":"T","where":[],"row":{"eph":"e"}}]'; tool show-log -mm a.db | tail -3
tool transact a.db '["s",{"op":"update","table":"T","where":[],"row":{}}]'; tool show-log -mm a.db | tail -3
tool transact a.db '["s",{"op":"insert","table":"T","row":{"name":"uno"}}]'; tool show-log a.db | tail -1
tool transact a.db '["s",{"op":"delete","table":"T","where":[]},{"op":"commit","durable":true}]'; tail -n 1 a.db
tool transact a.db '["s",{"op":"wait","table":"T","where":[],"columns":["i"],"until":"==","rows":[],"timeout":10}]'
chmod 400 a.db; tool transact a.db '["s",{"op":"comment","comment":"x"}]'
tool transact nothing '["s",{"op":"comment","comment":"x"}]'; ls -A | grep nothing
tool transact missing '["s",{"op":"comment","comment":"x"}]'; ls -A | grep missing
tool transact link.db '["s",{"op":"comment","comment":"x"}]'; tool show-log a.db | tail -1; ls -A | grep lock
tool transact /dev/full '["s"]'
tool transact /dev/null '["s"]'
(exec 8>.a.db.~lock~; flock 8; tool transact a.db '["s",{"op":"comment","comment":"x"}]')
mkdir .a.db.~lock~; tool transact a.db '["s",{"op":"comment","comment":"x"}]'; tool query a.db '["s"]'
ln -s x .a.db.~lock~; tool transact a.db '["s",{"op":"comment","comment":"x"}]'; ls -A | grep -E '^x|lock'
tool show-log
tool show-log a.db b.db
tool show-log missing
tool create-cluster
tool join-cluster
tool join-cluster x.db s tcp:127.0.0.1:6644
tool show-log -m c.db; tool show-log -mm c.db
tool create-cluster x.db s.ovsschema foo; tool create-cluster x.db missing tcp:127.0.0.1:6644; tool create-cluster x.db hello tcp:127.0.0.1:6644; ls x.db
tool create-cluster c.db s.ovsschema tcp:127.0.0.1:6644; tool create-cluster x.db c.db tcp:127.0.0.1:6644
tool create-cluster x.db s.ovsschema ssl:[::1]:6644; tool db-name x.db; tool db-local-address x.db; tool db-is-clustered x.db; echo $?; tool show-log x.db | sed 's/[0-9a-f]\{4\}\b/XXXX/g'
tool --election-timer=5000 create-cluster x.db s.ovsschema tcp:127.0.0.1:6644; tool show-log x.db | tail -4
tool create-cluster x.db a.db tcp:127.0.0.1:6644; tool show-log -m x.db | sed 's/[0-9a-f]\{4\}$/XXXX/; s/s: [0-9a-f]*(/s: XXXX(/; s/20[-0-9]* [0-9:.]*/DATE/'
tool join-cluster x.db 's s' tcp:127.0.0.1:6644 tcp:127.0.0.1:6645; tool join-cluster x.db s y tcp:127.0.0.1:6645; tool join-cluster x.db s tcp:127.0.0.1:6644 y; tool join-cluster x.db s tcp:127.0.0.1:6644 tcp:127.0.0.1:6644; ls x.db
tool join-cluster x.db s tcp:127.0.0.1:6644 tcp:127.0.0.1:6645; tool db-cid x.db; echo $?; tool db-local-address x.db; tool db-name x.db; tool show-log x.db | grep -v server_id
tool --cid=01234567-89ab-4def-8123-456789abcdef join-cluster x.db s tcp:127.0.0.1:6644 tcp:127.0.0.1:6645; tool db-cid x.db; tool show-log x.db | grep -v server_id
tool check-cluster
tool check-cluster a.db
tool check-cluster missing
tool check-cluster hello
tool cluster-to-standalone
tool cluster-to-standalone x.db
tool cluster-to-standalone x.db a.db
tool cluster-to-standalone x.db missing
tool cluster-to-standalone x.db hello
tool convert c.db s2.ovsschema out; ls -A | grep out
tool transact c.db '["s"]'
(cat a.db; rec '{"T":{}}'; rec '{"T":{},"U":{}}'; rec '{"T":{},"U":5}'; rec '{"T":5,"U":{}}';  rec '{"T":{"x":5}}';  rec '{"_x":{}}'; rec '{"_x":5}';  rec '{"_x":{"y":{"z":5}}}'; rec '{"_date":5}'; rec '{"T":null}';) > p.db; tool show-log p.db; tool show-log -m p.db; tool show-log -mm p.db
for ms in -1 -999 -1500 -86400000 2147483646 2147483647 2147483648 253402300800000 9223372036854775807; do (cat fresh.db; rec "{\"_date\":$ms,\"T\":{}}") > d.db; tool show-log d.db; done
for x in '"_is_diff":5' '"_is_diff":false' '"_x":5' '"_x":{}' '"_date":"x"' '"_comment":null' '"_date":1e3' '"_date":5.0' '"_synced":true'; do (cat a.db; rec "{$x,\"T\":{\"11111111-1111-4111-8111-111111111111\":{\"set\":[\"set\",[\"c\"]]}}}") > p.db; tool query p.db '["s",{"op":"select","table":"T","where":[],"columns":["set"]}]'; tool show-log -mm p.db | tail -3; done
h=5f36b2ea290645ee34d943220a14b54ee5ea5be5; for l in 'OVSDB JSON' 'OVSDB JSON ' 'OVSDB JSON 5' "OVSDB  JSON 3 $h\n{}\n" "OVSDB JSON  3 $h\n{}\n" "OVSDB JSON 3  $h\n{}\n" "OVSDB JSON 3 $h" "OVSDB JSON +3 $h\n{}\n" "OVSDB JSON 03 $h\n{}\n" "OVSDB JSON 0x3 $h\n{}\n" " OVSDB JSON 3 $h\n{}\n" 'OVSDB\n' 'OVSDB \n' '\n' "OVSDB JSON 3 ${h}x\n{}\n" "OVSDB JSON 3 $h \n{}\n" "ovsdb JSON 3 $h\n{}\n" "OVSDB json 3 $h\n{}\n" "OVSDB JSON\t3 $h\n{}\n" "OVSDB JSON 3 $h\n{}\n"; do printf "$l" > rest; cat a.db rest > p.db; tool query p.db '["s"]'; tool query rest '["s"]'; done
tool transact a.db '["s",{"op":"mutate","table":"T","where":[],"mutations":[["i","+=",0]]},{"op":"comment","comment":"nothing changed"}]'; tool show-log a.db | tail -1
cp duplicate.db d.db; tool transact d.db '["s",{"op":"update","table":"T","where":[],"row":{"i":50}}]'; tool show-log -mm d.db
