tool() { timeout 20 "$TOOL" "$@"; }
# Separates what belongs to different files.
b() { echo "$1"; echo "$1" >&2; }
select='["s",{"op":"select","table":"T","where":[],"columns":["name","i","set"]}]'
select2='["s",{"op":"select","table":"T","where":[],"columns":["name","set"]}]'
change='["s",{"op":"mutate","table":"T","where":[],"mutations":[["i","+=",1]]},{"op":"comment","comment":"change"}]'
durable='["s",{"op":"mutate","table":"T","where":[],"mutations":[["i","+=",1]]},{"op":"commit","durable":true}]'
sets='["s",{"op":"mutate","table":"T","where":[],"mutations":[["set","insert","new"],["set","delete","b"]]}]'
big='["s",{"op":"update","table":"T","where":[],"row":{"set":"'$(head -c 20000 /dev/zero | tr '\0' x)'"}}]'
# Sends the transaction of that name.
q() { eval "t=\$$1"; "$CLIENT" --timeout=10 transact unix:s.sock "$t" 2>&1 | sed 's/xxx*/xx/'; }
tt() { eval "t=\$$2"; tool transact "$1" "$t" 2>&1 | sed 's/xxx*/xx/'; }
tq() { eval "t=\$$2"; tool query "$1" "$t" 2>&1 | sed 's/xxx*/xx/'; }
convert() { "$CLIENT" --timeout=10 convert unix:s.sock "$1" 2>&1; }
ctl() { timeout 10 "$APPCTL" -t "$PWD/ctl" "$@" 2>&1; }
fill() { head -c 1000000 /dev/zero > filler 2>/dev/null; }
# Serves files while a script runs.
run() {
    files=$1; shift
    { echo '. "$PRELUDE"'; echo "$*"; } > script
    case $files in '') set -- '' ;; *) set -- $files ;; esac
    timeout 20 "$SERVER" "$@" --remote=punix:s.sock --unixctl="$PWD/ctl" -vsyslog:off --run='sh script'
    echo "exit $?"
}
# A disk of its own that holds little more than a database and the scripts.
full() {
    mkdir small && printf '%s\n' '. "$PRELUDE"' "$2" > full.sh
    unshare -m sh -c "mount -t tmpfs -o size=\$1 none small && cp a.db s.ovsschema s2.ovsschema small/ && cp full.sh small/ && cd small && sh full.sh" sh "$1"
}
