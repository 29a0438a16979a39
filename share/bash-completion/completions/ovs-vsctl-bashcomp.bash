# Completion of ovs-vsctl for bash.
#
# Options and commands come from the program itself (--options, --commands); names of bridges,
# ports, tables, records and columns come from the database, if one answers within a second.

_ovs_vsctl_ask() { # ovs-vsctl with the connection options of the line, quick and quiet
    ovs-vsctl "${_ovs_vsctl_db[@]}" --timeout=1 --no-syslog "$@" 2>/dev/null
}

_ovs_vsctl_client() { # ovsdb-client on the same server
    local server=${_ovs_vsctl_db[0]#--db=}
    ovsdb-client --timeout=1 --no-headings --format=csv "$1" ${server:+"$server"} Open_vSwitch "${@:2}" 2>/dev/null |
        tr -d '"'
}

_ovs_vsctl_names() { # the names that an argument of kind $1 may have; the rest are the words so far
    local kind=$1 table; shift
    case $kind in
        BRIDGE | PARENT) _ovs_vsctl_ask list-br ;;
        PORT | *PORT\|IFACE) _ovs_vsctl_ask --bare --columns=name list Port ;;
        BOND) _ovs_vsctl_ask --bare --columns=name find Port 'bond_mode!=[]' ;;
        IFACE) _ovs_vsctl_ask --bare --columns=name list Interface ;;
        MODE) echo standalone secure ;;
        TABLE) _ovs_vsctl_client list-tables ;;
        RECORD)
            table=$1
            case $table in
                [Oo]pen*) echo . ;;
                Bridge | Port | Interface | Mirror | Flow_Table)
                    _ovs_vsctl_ask --bare --columns=name list "$table" ;;
                *) _ovs_vsctl_ask --bare --columns=_uuid list "$table" ;;
            esac
            ;;
        COLUMN*) _ovs_vsctl_client list-columns "${1:-Port}" | cut -d, -f1 | grep -v '^_version' ;;
    esac
}

_ovs_vsctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} words=() word i commands usage kinds kind at
    local _ovs_vsctl_db=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        # bash cuts words at '=': put "--db=unix:..." together again.
        if [[ $word == --db && ${COMP_WORDS[i + 1]} == = ]]; then
            word=$(sed -nE 's/.*(--db=[^ ]+).*/\1/p' <<<"$COMP_LINE")
        fi
        case $word in
            --db=*) _ovs_vsctl_db=("$word") ;;
            --) words=() ;;
            -* | = | :) ;;
            *) words+=("$word") ;;
        esac
    done
    commands=$(ovs-vsctl --commands 2>/dev/null)
    if [[ ${#words[@]} -eq 0 ]]; then
        if [[ $cur == -* ]]; then
            word=$(ovs-vsctl --options 2>/dev/null | sed -E 's/(=| )ARG$/\1/')
            word+=" $(grep -oE '\[--[a-z-]+=?\]' <<<"$commands" | tr -d '[]' | sort -u)"
        else
            word=$(sed -E 's/^[^,]*,([^,]*),.*/\1/' <<<"$commands")
        fi
        COMPREPLY=($(compgen -W "$word --" -- "$cur"))
        return
    fi
    usage=$(grep -E "^[^,]*,${words[0]}," <<<"$commands" | sed -E 's/^[^,]*,[^,]*,//')
    read -ra kinds <<<"$usage"
    at=$((${#words[@]} - 1))
    # The last kind stands for all further arguments if it may be repeated.
    if ((at >= ${#kinds[@]})) && [[ ${#kinds[@]} -gt 0 && ${kinds[-1]} == [*+]* ]]; then
        at=$((${#kinds[@]} - 1))
    fi
    kind=${kinds[at]:1}
    COMPREPLY=($(compgen -W "$(_ovs_vsctl_names "${kind%%\?*}" "${words[@]:1}") --" -- "$cur"))
}

complete -F _ovs_vsctl ovs-vsctl
