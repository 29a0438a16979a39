cp "$CERTIFICATES"/*.pem .
"$TOOL" create ordinals.db /dev/stdin << 'EOF'
{"name": "ordinals", "version": "1.0.0", "tables": {"t": {"isRoot": true, "columns": {"n": {"type": "integer"}}}}}
EOF
