#!/bin/sh
# Makes the certificates that the tests use, in the current directory; needs openssl.
#
#   ca, other, self  authorities, each its own
#   server, client   by ca; wrong: by other; old: by ca, expired; v1: by ca, of X.509's version 1
set -e
work=$(mktemp -d)
: > "$work/index"
echo unique_subject=no > "$work/index.attr"
openssl rand -hex 8 > "$work/serial"
cat > "$work/config" << EOF
[ca]
default_ca = d
[d]
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = p
[p]
countryName = optional
organizationName = optional
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
subjectAltName = DNS:server.example
EOF
from=20200101000000Z until=21200101000000Z
make() { # NAME SUBJECT OPTIONS...
    name=$1 subject=$2
    shift 2
    openssl ecparam -name prime256v1 -genkey -noout -out "$name-key.pem"
    openssl req -new -key "$name-key.pem" -out "$work/csr" -subj "/C=US/O=Open vSwitch/CN=$subject"
    openssl ca -batch -notext -preserveDN -config "$work/config" -in "$work/csr" -out "$name.pem" \
        -startdate $from -enddate $until "$@"
}
authority() {
    make "$1" "$1 authority" -selfsign -keyfile "$1-key.pem" -extensions authority
}
leaf() { # NAME AUTHORITY OPTIONS...
    name=$1 by=$2
    shift 2
    make "$name" "$name-name" -cert "$by.pem" -keyfile "$by-key.pem" "$@"
}
authority ca
authority other
authority self
leaf server ca -extensions leaf
leaf client ca -extensions leaf
leaf wrong other -extensions leaf
leaf v1 ca
until=20210101000000Z
leaf old ca -extensions leaf
rm -rf "$work" other-key.pem ca-key.pem
