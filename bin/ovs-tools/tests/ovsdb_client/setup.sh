cat > ordinals.ovsschema << 'EOF'
{"name": "ordinals", "version": "1.2.3", "cksum": "12345 678", "tables": {
 "ordinals": {"isRoot": true, "indexes": [["number"]], "columns": {
  "number": {"type": "integer"},
  "name": {"type": "string"},
  "tags": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
  "opts": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
  "ok": {"type": {"key": "boolean", "min": 0}},
  "r": {"type": "real"},
  "other": {"type": {"key": {"type": "uuid", "refTable": "things"}, "min": 0, "max": "unlimited"}},
  "eph": {"type": "string", "ephemeral": true}}},
 "things": {"maxRows": 5, "columns": {
  "t": {"type": {"key": {"type": "string", "enum": ["set", ["a", "b", "c"]]}}},
  "lim": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 7}, "min": 0, "max": 3}}}},
 "single": {"isRoot": true, "columns": {
  "n": {"type": "integer"}, "s": {"type": "string"},
  "m": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}},
 "empty": {"isRoot": true, "columns": {"x": {"type": "integer"}}}}}
EOF
cat > v2.ovsschema << 'EOF'
{"name": "ordinals", "version": "2.0.0", "cksum": "1 2", "tables": {
 "ordinals": {"isRoot": true, "columns": {
  "number": {"type": "integer"}, "name": {"type": "string"}, "new": {"type": "integer"}}}}}
EOF
sed 's/"name": "ordinals", "version"/"name": "more", "version"/' ordinals.ovsschema > more.ovsschema
"$TOOL" create ordinals.db ordinals.ovsschema
"$TOOL" create more.db more.ovsschema
"$TOOL" transact ordinals.db '["ordinals",
 {"op": "insert", "table": "things", "uuid-name": "t1", "row": {"t": "a", "lim": ["set", [1, 2]]}},
 {"op": "insert", "table": "ordinals", "uuid": "11111111-1111-4111-8111-111111111111",
  "row": {"number": 0, "name": "zero", "r": 0.5}},
 {"op": "insert", "table": "ordinals", "uuid": "22222222-2222-4222-8222-222222222222",
  "row": {"number": 1, "name": "o\"n<e>, x", "tags": ["set", ["x", "y z"]],
  "opts": ["map", [["k", "v"], ["k2", "v 2"]]], "ok": true, "r": 1e100, "other": ["named-uuid", "t1"]}},
 {"op": "insert", "table": "ordinals", "uuid": "33333333-3333-4333-8333-333333333333",
  "row": {"number": 2, "name": "two\nlines", "ok": false, "r": -3}},
 {"op": "insert", "table": "single", "uuid": "44444444-4444-4444-8444-444444444444",
  "row": {"n": 1, "s": "a b", "m": ["map", [["k", "v"]]]}}]'
