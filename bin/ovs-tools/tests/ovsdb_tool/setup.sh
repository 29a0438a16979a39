# Files that the cases start with. Run once, by Open vSwitch's ovsdb-tool.
cat > s.ovsschema <<'X'
{"name":"s","version":"1.2.3","cksum":"12345 67","tables":{
 "T":{"isRoot":true,"indexes":[["name"]],"columns":{
  "name":{"type":"string"},"i":{"type":"integer"},"r":{"type":"real"},"b":{"type":"boolean"},
  "e":{"type":{"key":{"type":"string","enum":["set",["x","y"]]},"min":0}},
  "set":{"type":{"key":"string","min":0,"max":"unlimited"}},
  "map":{"type":{"key":"string","value":"integer","min":0,"max":"unlimited"}},
  "eph":{"type":"string","ephemeral":true},
  "refs":{"type":{"key":{"type":"uuid","refTable":"U"},"min":0,"max":"unlimited"}}}},
 "U":{"columns":{"v":{"type":{"key":{"type":"integer","minInteger":0,"maxInteger":100}}}}},
 "RBAC_Role":{"isRoot":true,"columns":{"name":{"type":"string"},"permissions":{"type":{"key":"string","value":{"type":"uuid","refTable":"RBAC_Permission"},"min":0,"max":"unlimited"}}}},
 "RBAC_Permission":{"isRoot":true,"columns":{"table":{"type":"string"},"authorization":{"type":{"key":"string","min":0,"max":"unlimited"}},"insert_delete":{"type":"boolean"},"update":{"type":{"key":"string","min":0,"max":"unlimited"}}}}}}
X
# The same, a column and a table fewer, a column more.
cat > s2.ovsschema <<'X'
{"name":"s","version":"2.0.0","tables":{
 "T":{"isRoot":true,"columns":{"name":{"type":"string"},"r":{"type":"real"},"new":{"type":"integer"},
  "set":{"type":{"key":"string","min":0,"max":"unlimited"}}}}}}
X
cat > tight.ovsschema <<'X'
{"name":"s","version":"3.0.0","tables":{"T":{"isRoot":true,"columns":{"name":{"type":{"key":{"type":"string","maxLength":1}}},"set":{"type":"string"}}}}}
X
cat > other.ovsschema <<'X'
{"name":"other","tables":{"T":{"columns":{"name":{"type":"string"}}}}}
X
sed 's/  */   /g' s.ovsschema > spaced.ovsschema
echo '{"name":"s","tables":{"T":{"columns":{"name":{"type":"strin"}}}}}' > type.ovsschema
echo '{"name":"s","version":"1.2","tables":{}}' > version.ovsschema
echo '{"name":"s","tables":{},"x":1}' > member.ovsschema
echo '{"name":"s","tables":{}}' > empty.ovsschema
echo '{"name":"s"}' > notables.ovsschema
echo '{"name":"s","tables":{' > cut.ovsschema
echo '[1]' > array.ovsschema
echo '"text"' > text.ovsschema
echo '{"name":"s","tables":{}} x' > trailing.ovsschema
printf '' > nothing
printf 'OVSDB' > word
printf 'hello\n' > hello
printf 'OVSDB JSON\n' > short.db
printf 'OVSDB JSON 5 0123456789012345678901234567890123456789\n' > nobody.db
printf 'OVSDB JSON 5 0123456789012345678901234567890123456789\nabcd\n' > wronghash.db
printf 'OVSDB JSON 3 7d8e0e5b50d5b8e0d7f0ed8d1fe1ca0eb7ca2b29\n{}\n' > emptyobject0.db
rec() { printf 'OVSDB JSON %d %s\n%s\n' $((${#1} + 1)) $(printf '%s\n' "$1" | sha1sum | cut -c1-40) "$1"; }
rec '{}' > object.db
rec '[]' > array.db
rec 'nonsense' > nonsense.db
rec '{"name":"s","tables":{"T":{"columns":{"name":{"type":"strin"}}}}}' > badtype.db
tool create a.db s.ovsschema
cp a.db fresh.db
u1=11111111-1111-4111-8111-111111111111 u2=22222222-2222-4222-8222-222222222222 u3=33333333-3333-4333-8333-333333333333
t() { tool transact a.db "[\"s\",$1]" >/dev/null; }
t '{"op":"insert","table":"T","uuid":"'$u1'","row":{"name":"one","i":1,"set":["set",["a","b"]],"map":["map",[["k",1],["l",2]]]}},{"op":"comment","comment":"first\n\"quoted\""}'
t '{"op":"insert","table":"U","uuid":"'$u2'","row":{"v":7}},{"op":"update","table":"T","where":[],"row":{"refs":["uuid","'$u2'"],"e":"x","r":0.5,"b":true}}'
t '{"op":"mutate","table":"T","where":[],"mutations":[["set","insert","c"],["set","delete","a"],["map","delete","k"],["i","+=",5]]}'
t '{"op":"insert","table":"T","uuid":"'$u3'","row":{"name":""}},{"op":"comment","comment":"c1"},{"op":"comment","comment":"c2"}'
t '{"op":"update","table":"T","where":[["name","==","one"]],"row":{"name":"uno"}}'
t '{"op":"update","table":"T","where":[["name","==",""]],"row":{"name":"zwei","set":["set",["x y","true","-1"]]}}'
t '{"op":"delete","table":"T","where":[["name","==","zwei"]]}'
t '{"op":"comment","comment":"only words"}'
t '{"op":"insert","table":"RBAC_Permission","uuid-name":"p","row":{"table":"T","insert_delete":false,"update":"i"}},{"op":"insert","table":"RBAC_Role","row":{"name":"r","permissions":["map",[["T",["named-uuid","p"]]]]}}'
rec '{"_date":1500000000000,"_comment":"no diff","T":{"'$u1'":{"i":9,"set":["set",["q"]]}}}' > rest; cat a.db rest > nodiff.db
rec '{"_date":1.5,"_comment":5,"T":{"'$u1'":{"i":10}}}' > rest; cat a.db rest > odddate.db
rec '{"_date":-1,"T":{"'$u1'":{"i":10}}}' > rest; cat a.db rest > negativedate.db
rec '{"_date":99999999999999999,"T":{"'$u1'":{"i":10}}}' > rest; cat a.db rest > farfuture.db
rec '{"T":{"'$u1'":{"i":10}}}' > rest; cat a.db rest > nodate.db
rec '{"Z":{"'$u1'":{"i":10}}}' > rest; cat a.db rest > unknowntable.db
rec '{"T":{"'$u1'":{"zzz":10}}}' > rest; cat a.db rest > unknowncolumn.db
rec '{"T":{"'$u3'":null}}' > rest; cat a.db rest > deletenothing.db
rec '{"T":{"xyz":null}}' > rest; cat a.db rest > baduuid.db
rec '{"T":5}' > rest; cat a.db rest > tablenumber.db
rec '{"T":{"'$u1'":5}}' > rest; cat a.db rest > rownumber.db
rec '{"T":{"'$u1'":{"i":"x"}}}' > rest; cat a.db rest > badvalue.db
rec '[1,2]' > rest; cat a.db rest > recordarray.db
rec '7' > rest; cat a.db rest > recordnumber.db
rec '{"T":{"'$u1'":{"name":"x"' > rest; cat a.db rest > brokenjson.db
rec '{"T":{"'$u3'":{"name":"uno"}}}' > rest; cat a.db rest > duplicate.db
rec '{"T":{"'$u3'":{"refs":["uuid","'$u3'"]}}}' > rest; cat a.db rest > dangling.db
rec '{"U":{"'$u3'":{"v":500}}}' > rest; cat a.db rest > range.db
rec '{"U":{"'$u3'":{"v":50}}}' > rest; cat a.db rest > orphan.db
n=$(stat -c %s a.db)
head -c $((n-1)) a.db > cut1.db
head -c $((n-30)) a.db > cut30.db
(cat a.db; printf 'OVSDB JS') > cutheader.db
(cat a.db; printf 'OVSDB JSON 12345 0123456789012345678901234567890123456789\n') > cutbody.db
(cat a.db; printf 'garbage line\n') > garbagetail.db
(cat a.db; head -c 300 /dev/zero | tr '\0' x; echo) > longgarbage.db
(cat a.db; head -c 4096 /dev/zero) > zeros.db
(cat a.db; printf 'OVSDB JSON 0 0123456789012345678901234567890123456789\n') > zerolen.db
(cat a.db; printf 'OVSDB JSON -5 0123456789012345678901234567890123456789\n') > neglen.db
(cat a.db; printf 'OVSDB JSON 99999999999999999999 0123456789012345678901234567890123456789\n') > hugelen.db
(cat a.db; printf 'OVSDB JSON 999999999999 0123456789012345678901234567890123456789\nx') > biglen.db
(cat a.db; printf 'OVSDB JSON 5 0123456789012345678901234567890123456789 more\nabcd\n') > headertail.db
(cat a.db; printf 'OVSDB CLUSTER 5 0123456789012345678901234567890123456789\nabcd\n') > mixed.db
(cat a.db; printf 'OVSDB TEXT 5 0123456789012345678901234567890123456789\nabcd\n') > othermagic.db
(cat a.db; rec '{}' | tr 'a-f' 'A-F') > upperhash.db
sed 's/one/eno/' a.db > middle.db
(cat a.db; cat a.db) > twice.db
tool create-cluster c.db s.ovsschema tcp:127.0.0.1:6644
ln -s a.db link.db
ln -s nowhere dangling
mkdir dir
rm rest
