#!/bin/sh
# What the steps of run.sh are made of: servers in containers, what is in their tables, on the disk and in the doctor's findings.
# shellcheck disable=SC2154 # what is not set here is run.sh's

is() { # is WHAT FOUND WANTED
    [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; exit 1; }
}

has() { # has TEXT WORDS
    case "$1" in *"$2"*) ;; *) echo "$2: not in $1" && exit 1 ;; esac
}

# start NAME VOLUMES IMAGE [OPTION...]: a server on the volumes whose names begin so.
start() {
    name=$1 volumes=$2 image=$3
    shift 3
    podman run --detach --pull=never --network=none --name "$name" --volume "$work/root_password:/run/root_password:ro" \
        --volume "$volumes-data:/var/lib/mysql" --volume "${keystore:-$volumes-keystore}:/var/lib/keyward" \
        --volume "${config:-$volumes-config}:/etc/keyward" --env MARIADB_ROOT_PASSWORD_FILE=/run/root_password \
        --env MYSQL_ROOT_PASSWORD_FILE=/run/root_password "$@" "$image"
}

ready() { # ready NAME: the server takes connections by TCP
    for _ in $(seq 240); do
        if podman exec "$1" keyward-health > "$work/health" 2>&1; then
            cat "$work/health"
            return
        fi
        if [ "$(podman inspect --format '{{.State.Running}}' "$1")" != true ]; then break; fi
        sleep 0.5
    done
    cat "$work/health"
    podman logs "$1"
    exit 1
}

refused() { # refused NAME: it ends by itself, and what it said is printed
    code=$(timeout 60 podman wait "$1")
    podman logs "$1" 2>&1
    [ "$code" != 0 ] || { echo "$1 did not fail"; exit 1; }
}

sql() { # sql NAME QUERY
    client=mariadb
    case "$1" in mysql*) client=mysql ;; esac
    podman exec --env MYSQL_PWD="$(cat "$work/root_password")" "$1" "$client" --user=root --batch --skip-column-names --execute "$2"
}

# doctor NAME [OPTION...]: green, all of it, the server too, but for what a test's key is: one file, on the disk of the data
doctor() {
    name=$1 code=0
    shift
    case "$name" in
        mysql*) ;;
        *) sql "$name" "SET GLOBAL keyward_refresh = ON; DO SLEEP(1.5)" ;;
    esac
    podman exec --env MYSQL_PWD="$(cat "$work/root_password")" "$name" keyward "$@" doctor > "$work/doctor" || code=$?
    cat "$work/doctor"
    case "$code" in 0 | 3) ;; *) exit 1 ;; esac
    # With a log-in by AppRole it is not tried, because a secret id may be good for one log-in.
    bad=$(sed -e '/^warn .* alone opens the keystore/,+1d' -e '/^warn .* lies on the file system of the data/,+1d' \
        -e '/^more: /d' "$work/doctor" | grep -v -e '^ok ' -e 'is unknown: .*log-in' || true)
    is "what is not ok" "$bad" ""
    grep -q '^ok    server' "$work/doctor"
}

volume() { # volume NAME: where it is
    podman volume inspect --format '{{.Mountpoint}}' "$1"
}

sums() { # sums VOLUME: of every file in it
    (cd "$(volume "$1")" && find . -type f -exec sha256sum {} + | sort -k 2 && find . -printf '%p %u %g %m\n' | sort)
}

fill() { # fill NAME: a table that is encrypted and one that is not
    case "$1" in
        mysql*) encrypted="ENCRYPTION='Y'" not="ENCRYPTION='N'" ;;
        *) encrypted=ENCRYPTED=YES not=ENCRYPTED=NO ;;
    esac
    sql "$1" "CREATE DATABASE d;
        CREATE TABLE d.encrypted (a TEXT) $encrypted; INSERT INTO d.encrypted VALUES (REPEAT('$plain', 100));
        CREATE TABLE d.plain (a TEXT) $not; INSERT INTO d.plain VALUES (REPEAT('$plain', 100));
        FLUSH TABLES d.encrypted, d.plain FOR EXPORT"
}

on_disk() { # on_disk VOLUME: the one table can be read on the disk, the other cannot
    folder=$(volume "$1")
    grep -q "$plain" "$folder/d/plain.ibd" || { echo "the plain table is not on the disk"; exit 1; }
    [ -s "$folder/d/encrypted.ibd" ]
    if grep -q "$plain" "$folder/d/encrypted.ibd"; then
        echo "the encrypted table is in the clear on the disk"
        exit 1
    fi
}

same_name() { # same_name NAME: in a container without root, the command asks the server as the account that it runs as
    who=$(podman exec "$1" id -un)
    sql "$1" "CREATE USER IF NOT EXISTS '$who'@localhost IDENTIFIED VIA unix_socket"
}

rows() { # rows NAME
    is "the row" "$(sql "$1" "SELECT COUNT(*) FROM d.encrypted WHERE a = REPEAT('$plain', 100)")" 1
}

gone() { # gone NAME...: containers; gone -v VOLUMES: volumes
    if [ "$1" = -v ]; then
        for kind in data keystore config; do podman volume rm --force "$2-$kind"; done
    else
        podman rm --force --time=20 "$@"
    fi
}
