# One connection, or several, a line: see tls.rs.

serve $(me server ca); client $(me client ca); said
serve $(me server ca); client $(me client ca) --ssl-protocols=TLSv1.2
serve $(me server ca) --ssl-protocols=TLSv1.2; client $(me client ca)
serve $(me server ca); client $(me client ca) --ssl-protocols=TLSv1.2 --ssl-ciphers=ECDHE-ECDSA-AES128-GCM-SHA256
serve $(me server ca) --ssl-ciphers=ECDHE-ECDSA-AES128-GCM-SHA256; client $(me client ca) --ssl-protocols=TLSv1.2 --ssl-ciphers=ECDHE-ECDSA-AES256-GCM-SHA384; said
serve $(me server ca); client $(me client ca) --ssl-ciphers=HIGH:!aNULL
serve $(me server ca); client $(me client ca) --ssl-ciphers=NOSUCH
serve $(me server ca); client $(me client ca) --ssl-ciphers=
serve $(me server ca); client $(me client ca) --ssl-protocols=NOSUCH
serve $(me server ca); client $(me client ca) --ssl-protocols=
serve $(me server ca) --ssl-ciphers=NOSUCH; client $(me client ca); said

# Certificates.
serve $(me v1 ca); client $(me v1 ca); said
serve $(me self self); client $(me self self); said
serve -p server-key.pem -c server.pem -C none; client -p client-key.pem -c client.pem -C none; said
serve -p server-key.pem -c server.pem -C none; client -p wrong-key.pem -c wrong.pem -C ca.pem; said
serve $(me server ca); client -p client-key.pem -c client.pem -C other.pem; said
serve $(me wrong ca); client $(me client ca); said
serve $(me old ca); client $(me client ca); said
serve $(me self ca); client $(me client ca); said
serve $(me server ca); client $(me client ca) > /dev/null; client $(me wrong ca) > /dev/null; said
serve $(me server ca); client $(me old ca) > /dev/null; said
serve $(me server ca); client $(me self ca) > /dev/null; said

# Files.
serve $(me server ca); client -p nosuch -c client.pem -C ca.pem
serve $(me server ca); client -p client-key.pem -c nosuch -C ca.pem
serve $(me server ca); client -p client-key.pem -c client.pem -C nosuch; said
serve $(me server ca); client -p ordinals.db -c client.pem -C ca.pem
serve $(me server ca); client -p client-key.pem -c ordinals.db -C ca.pem
serve $(me server ca); client -p client-key.pem -c client.pem -C ordinals.db; said
serve $(me server ca); client -p server-key.pem -c client.pem -C ca.pem
serve $(me server ca); client -c client.pem -p server-key.pem -C ca.pem > /dev/null
serve $(me server ca); client
serve $(me server ca); client -p client-key.pem
serve $(me server ca); client -C ca.pem
serve -p client-key.pem -c server.pem -C ca.pem; client $(me client ca) > /dev/null; said
serve -p nosuch -c server.pem -C ca.pem; client $(me client ca) > /dev/null; said
serve; client $(me client ca) > /dev/null; said
serve $(me server ca) --peer-ca-cert=nosuch; client $(me client ca); said

# Learning whom to trust.
serve $(me server ca) --peer-ca-cert=ca.pem; client -p client-key.pem -c client.pem --bootstrap-ca-cert="$PWD/kept"; cmp kept ca.pem; ls -l kept | cut -c1-10; client -p client-key.pem -c client.pem --bootstrap-ca-cert="$PWD/kept"
serve $(me server ca); client -p client-key.pem -c client.pem --bootstrap-ca-cert="$PWD/kept"; client -p client-key.pem -c client.pem --bootstrap-ca-cert="$PWD/kept"
serve $(me server ca); client -p client-key.pem -c client.pem --bootstrap-ca-cert=no/such
serve $(me server ca); client $(me client ca) --bootstrap-ca-cert="$PWD/kept"; cmp kept ca.pem
serve $(me server ca); client -p client-key.pem -c client.pem --bootstrap-ca-cert="$PWD/kept" -C ca.pem; ls kept
serve -p server-key.pem -c server.pem --bootstrap-ca-cert="$PWD/kept"; client $(me client ca) > /dev/null; said; ls kept

# Files that change.
serve $(me server ca); client $(me client ca); cp wrong.pem server.pem; cp wrong-key.pem server-key.pem; "$TOOL" transact ordinals.db '["ordinals"]' > /dev/null 2>&1; sleep 3; client $(me client other) > /dev/null; client $(me client ca) | head -1

# Who does not speak TLS.
serve $(me server ca); printf '{"method":"list_dbs","params":[],"id":1}' | timeout 1 bash -c "exec 3<> /dev/tcp/127.0.0.1/$port; cat >&3; sleep 0.3"; said
serve $(me server ca); printf 'GET / HTTP/1.0\r\n\r\n' | timeout 1 bash -c "exec 3<> /dev/tcp/127.0.0.1/$port; cat >&3; sleep 0.3"; said
serve $(me server ca); printf '\026\003\001\000\005hel' | timeout 1 bash -c "exec 3<> /dev/tcp/127.0.0.1/$port; cat >&3; sleep 0.3"; said
