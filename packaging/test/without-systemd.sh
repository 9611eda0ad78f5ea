#!/bin/sh
# Does in a fresh Debian with MariaDB and without systemd, as root, what an administrator does with the
# packages in /packages. Prints one line a step, and after a failed one all that it said.
set -eu
# shellcheck source=steps.sh
. "$(dirname "$0")/steps.sh"

conf=/etc/mysql/mariadb.conf.d/keyward.cnf
original=/usr/lib/mysql/plugin/file_key_management.so

keys() { # all that is kept of keys, in one sum
    find /etc/keyward /var/lib/keyward -type f -name '*.json' -o -type f -path '/etc/keyward/*' |
        sort | xargs sha256sum
}

begin() { # as on a machine with sysvinit, where packages may restart services
    printf '#!/bin/sh\nexit 0\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    apt-get update
    service mariadb start
    pidof mariadbd > /run/before.pid
    sha256sum "$original" > /run/original.sum
}

install_package() { # nothing is restarted, and no server loads it
    install /packages/keyward_*.deb
    same_server
    is "mode and owner of the snippet" "$(stat -c '%a %U:%G' $conf)" "644 root:root"
    is "the number of options in force" "$(grep -c '^[a-z]' $conf || true)" 0
    [ ! -e /etc/keyward ] && [ ! -e /var/lib/keyward ]
}

set_up() {
    keyward init > /run/init
    sed -i 's/^#\([a-z]\)/\1/' "$conf"
    sed -n '/^ *\[mariadb\]/,/^ *$/s/^ *//p' /run/init | sed '/^$/d' > /run/printed
    sed -n '/^\[mariadb\]/,$p' "$conf" | diff - /run/printed
    service mariadb restart
    sql "CREATE DATABASE d; CREATE TABLE d.t (a TEXT) ENCRYPTED=YES; INSERT INTO d.t VALUES (REPEAT('plain', 100))"
    works
}

restart() {
    service mariadb restart
    is "the row" "$(sql "SELECT a = REPEAT('plain', 100) FROM d.t")" 1
    sql "FLUSH TABLES d.t FOR EXPORT" && grep -c plainplain /var/lib/mysql/d/t.ibd && exit 1
    keyward status
}

reinstall() { # as an upgrade does: the file is replaced, the mapped one goes on, changes are kept
    pidof mariadbd > /run/before.pid
    install --reinstall /packages/keyward_*.deb
    same_server
    is "the number of options in force" "$(grep -c '^[a-z]' $conf)" 10
    is "the row" "$(sql "SELECT COUNT(*) FROM d.t")" 1
    works | grep 'the file of its library was replaced'
}

pages() {
    keyward --version
    zcat /usr/share/man/man8/keyward.8.gz | grep -q '^\.TH keyward 8'
    bash -n /usr/share/bash-completion/completions/keyward
    zcat /usr/share/doc/keyward/third-party-licenses.txt.gz | grep -q '^ring '
}

stand_in() { # the original's data, then ours in its place
    keys > /run/keys
    service mariadb stop
    mv /var/lib/mysql /var/lib/mysql.encrypted
    mv "$conf" /root/
    mariadb-install-db --user=mysql --auth-root-authentication-method=socket > /dev/null
    echo "1;000102030405060708090a0b0c0d0e0f" > /etc/mysql/keyfile
    chown root:mysql /etc/mysql/keyfile && chmod 0640 /etc/mysql/keyfile
    printf '[mariadb]\nplugin_load_add = file_key_management\nfile_key_management_filename = /etc/mysql/keyfile\n' \
        > /etc/mysql/mariadb.conf.d/file.cnf
    service mariadb start
    sql "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTED=YES; INSERT INTO d.t VALUES (1)"
    pidof mariadbd > /run/before.pid
    install /packages/keyward-file-key-management_*.deb
    same_server
    is "the link" "$(readlink $original)" keyward.so
    service mariadb restart
    is "the plugin's author" "$(author)" "The keyward authors"
    sql "INSERT INTO d.t VALUES (2)"
    is "the rows" "$(sql 'SELECT SUM(a) FROM d.t')" 3
}

author() {
    sql "SELECT PLUGIN_AUTHOR FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'file_key_management'"
}

stand_in_out() { # the original comes back, and reads what ours wrote
    pidof mariadbd > /run/before.pid
    dpkg --remove keyward-file-key-management
    same_server
    sha256sum --check /run/original.sum
    service mariadb restart
    [ "$(author)" != "The keyward authors" ]
    is "the rows" "$(sql 'SELECT SUM(a) FROM d.t')" 3
}

others() { # whether there is an original or not
    for name in hashicorp aws kmip; do
        link=/usr/lib/mysql/plugin/${name}_key_management.so
        install /packages/keyward-$name-key-management_*.deb
        is "the link" "$(readlink "$link")" keyward.so
        dpkg --purge keyward-$name-key-management
        [ ! -e "$link" ]
    done
    is "the number of diversions of ours" "$(dpkg-divert --list 'keyward*' | wc -l)" 0
}

purge() { # the server has its own plugins, the keys stay
    mv /root/keyward.cnf "$conf"
    pidof mariadbd > /run/before.pid
    dpkg --purge keyward
    same_server
    [ ! -e "$conf" ] && [ ! -e /usr/bin/keyward ] && [ ! -e /usr/lib/mysql/plugin/keyward.so ]
    keys | diff /run/keys -
    service mariadb restart
    is "the rows" "$(sql 'SELECT SUM(a) FROM d.t')" 3
    dpkg --verify mariadb-server
}

again() { # what was encrypted before the purge can be read after a new installation
    service mariadb stop
    rm /etc/mysql/mariadb.conf.d/file.cnf
    mv /var/lib/mysql /var/lib/mysql.file
    mv /var/lib/mysql.encrypted /var/lib/mysql
    install /packages/keyward_*.deb
    sed -i 's/^#\([a-z]\)/\1/' "$conf"
    service mariadb start
    is "the row" "$(sql "SELECT a = REPEAT('plain', 100) FROM d.t")" 1
    works
    service mariadb stop
}

run_steps "begin install_package set_up restart reinstall pages stand_in stand_in_out others purge again" "$@"
