#!/bin/bash
# Does what the entrypoint of the official mariadb image does, as far as an image made of it can notice: variables and
# their X_FILE twins, another user than root, a check of the options, the first start without a network, initdb.d.
set -eo pipefail
shopt -s nullglob

note() { echo "[Entrypoint]: $*"; }

# from_file NAME: NAME from the file that NAME_FILE names
from_file() {
    local file="${1}_FILE"
    [ -z "${!file}" ] || export "$1"="$(< "${!file}")"
    unset "$file"
}

asks_only() {
    local word
    for word; do
        case "$word" in '-?' | --help | --print-defaults | -V | --version) return 0 ;; esac
    done
    return 1
}

option() { # option NAME COMMAND...: what the server says of itself
    local name=$1
    shift
    "$@" --verbose --help 2> /dev/null | awk -v name="$name" '$1 == name && /^[^ \t]/ { print $2; exit }'
}

client() { # the server of the initialisation is asked by its socket
    mariadb --protocol=socket --socket="$SOCKET" -uroot "$@"
}

initialise() {
    [ -n "$MARIADB_ROOT_PASSWORD$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD" ] || {
        note "Database is uninitialized and password option is not specified"
        exit 1
    }
    note "Initializing database files"
    mariadb-install-db --datadir="$DATADIR" --rpm --auth-root-authentication-method=normal "${@:2}" \
        --skip-test-db --default-time-zone=SYSTEM --enforce-storage-engine= --skip-log-bin --expire-logs-days=0 \
        --loose-innodb_buffer_pool_load_at_startup=0 --loose-innodb_buffer_pool_dump_at_shutdown=0 > /dev/null
    note "Starting temporary server"
    "$@" --skip-networking --default-time-zone=SYSTEM --socket="$SOCKET" --wsrep_on=OFF --expire-logs-days=0 \
        --loose-innodb_buffer_pool_load_at_startup=0 &
    local server=$! i
    for i in {120..0}; do
        client --execute 'SELECT 1' &> /dev/null && break
        sleep 0.5
    done
    [ "$i" != 0 ] || { note "Unable to start server."; exit 1; }
    accounts | client
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        note "running $file"
        case "$file" in
            *.sh) "$file" ;;
            *.sql) client --password="$MARIADB_ROOT_PASSWORD" --database="${MARIADB_DATABASE:-mysql}" < "$file" ;;
        esac
    done
    note "Stopping temporary server"
    kill "$server" && wait "$server"
    note "MariaDB init process done. Ready for start up."
}

accounts() {
    local host password
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    for host in 127.0.0.1 ::1 localhost; do
        echo "CREATE USER healthcheck@'$host' IDENTIFIED BY '$password';"
    done
    (umask 077 && printf '[mariadb-client]\nport=3306\nsocket=%s\nuser=healthcheck\npassword=%s\nprotocol=tcp\n' \
        "$SOCKET" "$password" > "$DATADIR/.my-healthcheck.cnf")
    if [ -n "$MARIADB_MYSQL_LOCALHOST_USER" ]; then
        echo "CREATE USER mysql@localhost IDENTIFIED VIA unix_socket;"
        echo "GRANT ${MARIADB_MYSQL_LOCALHOST_GRANTS:-USAGE} ON *.* TO mysql@localhost;"
    fi
    [ -z "$MARIADB_DATABASE" ] || echo "CREATE DATABASE $MARIADB_DATABASE;"
    echo "CREATE USER root@'%' IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';"
    echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
    echo "SET PASSWORD FOR root@localhost = PASSWORD('$MARIADB_ROOT_PASSWORD');"
}

[ "${1:0:1}" != - ] || set -- mariadbd "$@"
if [ "$1" = mariadbd ] && ! asks_only "$@"; then
    errors=$("$@" --verbose --help 2>&1 > /dev/null) || {
        note "mariadbd failed while attempting to check config: $errors"
        exit 1
    }
    DATADIR=$(option datadir "$@") SOCKET=$(option socket "$@")
    mkdir -p "$DATADIR"
    if [ "$(id -u)" = 0 ]; then
        find "$DATADIR" ! -user mysql -exec chown mysql: {} +
        find "${SOCKET%/*}" -maxdepth 0 ! -user mysql -exec chown mysql: {} \;
        exec gosu mysql "${BASH_SOURCE[0]}" "$@"
    fi
    from_file MARIADB_ROOT_PASSWORD
    [ -d "$DATADIR/mysql" ] || initialise "$@"
fi
exec "$@"
