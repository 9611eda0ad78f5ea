#!/bin/bash
# Does what the entrypoint of the official mysql image does, as far as an image made of it can notice.
set -eo pipefail

note() { echo "[Entrypoint]: $*"; }

client() {
    mysql --protocol=socket --socket="$SOCKET" -uroot "$@"
}

initialise() {
    [ -n "$MYSQL_ROOT_PASSWORD" ] || { note "Database is uninitialized and password option is not specified"; exit 1; }
    note "Initializing database files"
    "$@" --initialize-insecure --default-time-zone=SYSTEM
    note "Starting temporary server"
    "$@" --skip-networking --default-time-zone=SYSTEM --socket="$SOCKET" &
    local server=$! i
    for i in {120..0}; do
        client --execute 'SELECT 1' &> /dev/null && break
        sleep 0.5
    done
    [ "$i" != 0 ] || { note "Unable to start server."; exit 1; }
    client << END
CREATE USER root@'%' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
ALTER USER root@localhost IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
END
    note "Stopping temporary server"
    MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysqladmin --protocol=socket --socket="$SOCKET" -uroot shutdown
    wait "$server"
    note "MySQL init process done. Ready for start up."
}

SOCKET=/var/run/mysqld/mysqld.sock
[ "${1:0:1}" != - ] || set -- mysqld "$@"
if [ "$1" = mysqld ]; then
    if [ "$(id -u)" = 0 ]; then
        find /var/lib/mysql ! -user mysql -exec chown mysql: {} +
        exec setpriv --reuid=mysql --regid=mysql --init-groups -- "${BASH_SOURCE[0]}" "$@"
    fi
    [ -z "$MYSQL_ROOT_PASSWORD_FILE" ] || MYSQL_ROOT_PASSWORD=$(< "$MYSQL_ROOT_PASSWORD_FILE")
    [ -d /var/lib/mysql/mysql ] || initialise "$@"
fi
exec "$@"
