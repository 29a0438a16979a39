# One case a line. `run FILE SCRIPT...` serves FILE while SCRIPT runs; `q` sends a transaction, `ctl` a command.
run missing.db true
run missing/x.db true
run dir true
run '' true
run /dev/null true
run /dev/full true
run hello true
run nothing true
run word true
run c.txt true
run dangling 'ls -A | grep -E "nowhere|dangling"'
run 'a.db a.db' 'ctl ovsdb-server/list-dbs'
cp a.db b.db; run 'a.db b.db' true
for f in a cut1 cut30 cutheader cutbody garbagetail longgarbage zeros zerolen neglen hugelen biglen headertail mixed othermagic upperhash; do b "== $f"; run $f.db 'q select; q change; q select'; tail -n 1 $f.db; done
for f in middle nodiff odddate nodate unknowntable unknowncolumn deletenothing baduuid tablenumber rownumber badvalue recordarray recordnumber brokenjson duplicate dangling range orphan; do b "== $f"; run $f.db 'q select; q change; q select'; tail -n 1 $f.db; done
for f in short nobody wronghash emptyobject0 object array nonsense badtype; do b "== $f"; run $f.db true; done
chmod 400 a.db; run a.db true
chmod 000 a.db; run a.db true
mkdir ro; cp a.db ro; chmod 500 ro; run ro/a.db true; ls -A ro
mkdir .a.db.~lock~; run a.db true
run a.db 'timeout 5 "$SERVER" a.db --remote=punix:t.sock --unixctl=$PWD/ctl2 -vsyslog:off; echo $?; tool transact a.db "[\"s\"]"; tool compact a.db; tool convert a.db s.ovsschema; tool query a.db "[\"s\"]"'
cp -l a.db hard.db; run a.db 'timeout 5 "$SERVER" hard.db --remote=punix:t.sock --unixctl=$PWD/ctl2 -vsyslog:off --run=true; echo $?'
run link.db 'timeout 5 "$SERVER" a.db --remote=punix:t.sock --unixctl=$PWD/ctl2 -vsyslog:off --run=true; echo $?; q change; ctl ovsdb-server/compact; ls -l link.db | sed s/.*link/link/; q change; cat a.db; ls -A | grep lock'
run a.db 'q change; ctl ovsdb-server/compact; ctl ovsdb-server/compact s; ctl ovsdb-server/compact x; ctl ovsdb-server/compact _Server; q change; q select; ls -A | grep a.db'; cat a.db
umask 0; run a.db 'ctl ovsdb-server/compact; stat -c %a a.db'
umask 077; run a.db 'ctl ovsdb-server/compact; stat -c %a a.db'
chmod 604 a.db; run a.db 'ctl ovsdb-server/compact; stat -c %a a.db'
echo x > a.db.tmp; run a.db 'ctl ovsdb-server/compact; ls -A | grep a.db; ctl ovsdb-server/get-db-storage-status s'
mkdir a.db.tmp; run a.db 'ctl ovsdb-server/compact; ls -A | grep a.db; ctl ovsdb-server/get-db-storage-status s; q change; q select'; rmdir a.db.tmp; run a.db 'q select'
run a.db 'rm a.db; q change; q select; ls -A | grep a.db; ctl ovsdb-server/compact; ls -A | grep a.db; q change'; run a.db 'q select'
run a.db 'mv fresh.db a.db; q change; q select; ctl ovsdb-server/compact; q change'; run a.db 'q select'
run a.db ': > a.db; q change; q select; ctl ovsdb-server/compact'; run a.db 'q select'
run a.db 'chmod 400 a.db; q change; ctl ovsdb-server/compact; stat -c %a a.db; q change'
run a.db 'chmod 500 .; q change; ctl ovsdb-server/compact; ls -A | grep a.db; q change; ctl ovsdb-server/get-db-storage-status s; chmod 700 .; ctl ovsdb-server/compact; q select'
full 64k 'run a.db "fill; q big; q select; q change; q select; ctl ovsdb-server/get-db-storage-status s; rm filler; q change; q select; ctl ovsdb-server/get-db-storage-status s"; run a.db "q select"; tool show-log a.db'
full 64k 'run a.db "fill; q durable; q big; q durable; q select; rm filler; q durable; q select"; run a.db "q select"; tool show-log a.db'
full 64k 'run a.db "fill; ctl ovsdb-server/compact; ls -A | grep a.db; ctl ovsdb-server/get-db-storage-status s; q select; rm filler; ctl ovsdb-server/compact; ls -A | grep a.db; q change; q select"; run a.db "q select"'
full 64k 'run a.db "fill; convert s2.ovsschema; ls -A | grep a.db; q select; rm filler; convert s2.ovsschema; ls -A | grep a.db; q select2"; run a.db "q select2"'
full 64k 'fill; tt a.db big; tq a.db select; tool show-log a.db | tail -1'
full 64k 'fill; tool compact a.db; ls -A | grep a.db; tq a.db select'
full 64k 'fill; tool create new.db s.ovsschema; ls -A | grep new.db; tool db-name new.db'
full 64k 'fill; tool compact a.db new.db; ls -A | grep new.db; tool convert a.db s2.ovsschema; ls -A | grep a.db; tq a.db select'
run a.db 'convert s2.ovsschema; q select2; ls -A | grep a.db'; cat a.db
run a.db 'convert tight.ovsschema; q select; convert other.ovsschema; convert type.ovsschema'; cmp a.db a0.db
run --disable-file-column-diff\ a.db 'q change; q sets'; tail -n 3 a.db
run a.db 'q change; q sets'; tail -n 3 a.db
run a.db 'ctl ovsdb/file/column-diff-disable; q sets; ctl ovsdb/file/column-diff-enable; q sets'; tail -n 1 a.db
run --disable-file-column-diff\ a.db 'ctl ovsdb/file/column-diff-enable; q sets'; tail -n 1 a.db
run a.db 'ctl ovsdb-server/remove-db s; ls -A | grep lock; ctl ovsdb-server/add-db a.db; q select; ctl ovsdb-server/list-dbs; ctl ovsdb-server/remove-db s; ctl ovsdb-server/remove-db s; tool transact a.db "[\"s\"]"; ctl ovsdb-server/get-db-storage-status s; ctl ovsdb-server/get-db-storage-status _Server'
run --disable-file-column-diff\ a.db 'q sets; ctl ovsdb-server/compact; convert s2.ovsschema'; tail -n 1 a.db
run --disable-file-column-diff\ a.db 'q sets; ctl ovsdb-server/compact'; tail -n 1 a.db
(ulimit -f 16; run a.db 'q big > out'); sleep 0.5; cat out; run a.db 'q select'
