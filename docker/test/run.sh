#!/bin/sh
# run.sh FOLDER [STEP...]: runs the images keyward-mariadb:10.11 and keyward-mysql:9.7 by podman, and the compose examples by
# podman-compose, in ways that they are used and misused. Prints one line a step, and after a failed one all that it said.
# FOLDER is scratch. Nothing is pulled; every container, volume and network is removed.
# shellcheck disable=SC2317 # a step is called by its name
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$1
mariadb=localhost/keyward-mariadb:10.11 mysql=localhost/keyward-mysql:9.7
# To be found on a disk, or not.
plain=this-is-plain-text-on-a-disk
# Which ones follow each other: fresh to again, mysql_fresh to mysql_lost, local_key to restore.
steps="fresh restart replaced healthy lost_keystore lost_both again
    no_volumes adopt secret_for_all secret_for_server read_only as_mysql openshift openshift_restart volume_of_a_group
    kubernetes manifests other_account two_at_once asks_only
    mysql_fresh mysql_restart mysql_replaced mysql_lost
    local_key backup restore vault vault_restart galera galera_node galera_first nothing_left"

# shellcheck source=/dev/null # next to this one
. "$here/lib.sh"

fresh() {
    mkdir -p "$work/initdb.d"
    echo "CREATE TABLE mysql.first (a INT) ENCRYPTED=YES; INSERT INTO mysql.first VALUES (7)" > "$work/initdb.d/first.sql"
    start db a "$mariadb" --volume "$work/initdb.d:/docker-entrypoint-initdb.d:ro"
    ready db
    has "$(podman logs db 2>&1)" "made /etc/keyward/keyward.toml"
    is "the row of initdb.d" "$(sql db 'SELECT a FROM mysql.first')" 7
    fill db
    on_disk a-data
    doctor db
    is "the keystore" "$(podman exec db stat -c '%U %a' /var/lib/keyward /var/lib/keyward/keystore.json | tr '\n' ' ')" "mysql 700 mysql 600 "
    is "the wrapping key" "$(podman exec db stat -c '%U:%G %a' /etc/keyward /etc/keyward/local.key | tr '\n' ' ')" "root:mysql 750 root:mysql 640 "
}

restart() {
    podman restart --time=60 db
    ready db
    rows db
    doctor db
}

replaced() { # by a newer image, say; the keystore is the same
    before=$(sha256sum < "$(volume a-config)/local.key")
    gone db
    start db a "$mariadb"
    ready db
    rows db
    is "the wrapping key" "$(sha256sum < "$(volume a-config)/local.key")" "$before"
    is "the number of new keystores" "$(podman logs db 2>&1 | grep -c 'made /etc/keyward' || true)" 0
}

healthy() { # degraded is healthy, and said; a server without keyward is not
    has "$(podman healthcheck run db && podman exec db keyward-health)" "keyward: ok"
    keystore=$(volume a-keystore)/keystore.json
    mv "$keystore" "$keystore.away"
    sql db "SET GLOBAL keyward_refresh = ON" || true
    for _ in $(seq 40); do
        said=$(podman exec db keyward-health)
        case "$said" in *degraded*) break ;; esac
        sleep 0.5
    done
    has "$said" "keyward: degraded"
    mv "$keystore.away" "$keystore"
    podman run --detach --pull=never --network=none --name without --env MARIADB_ROOT_PASSWORD=x "$mariadb" \
        --keyward=OFF --innodb-encrypt-tables=OFF --innodb-encrypt-log=OFF --aria-encrypt-tables=OFF --encrypt-tmp-disk-tables=OFF \
        --encrypt-tmp-files=OFF
    for _ in $(seq 60); do
        said=$(podman exec without keyward-health 2>&1) && { echo "healthy: $said"; exit 1; }
        case "$said" in *"without keyward"*) break ;; esac
        sleep 0.5
    done
    has "$said" "without keyward"
    podman rm --force --volumes --time=20 without
}

lost_keystore() { # its volume alone
    gone db
    sums a-data > "$work/before"
    keystore=lost-keystore start db a "$mariadb"
    said=$(refused db)
    has "$said" "there is /etc/keyward/keyward.toml, but no /var/lib/keyward/keystore.json"
    has "$said" "Mount that volume again"
    gone db
    sums a-data | diff "$work/before" -
    is "the number of files in the new volume" "$(find "$(volume lost-keystore)" -type f | wc -l)" 0
    podman volume rm lost-keystore
}

lost_both() { # as in a container that was replaced without naming them
    sums a-data > "$work/before"
    for adopt in no yes; do
        keystore=lost-keystore config=lost-config start db a "$mariadb" --env KEYWARD_ADOPT_DATA="$adopt"
        said=$(refused db)
        case $adopt in
            no) has "$said" "there are data in /var/lib/mysql, but neither /etc/keyward/keyward.toml nor" ;;
            yes) has "$said" "keyward.mark in /var/lib/mysql says" ;;
        esac
        gone db
        podman volume rm lost-keystore lost-config
        sums a-data | diff "$work/before" -
    done
}

again() { # with its volumes back
    start db a "$mariadb"
    ready db
    rows db
    gone db
    gone -v a
}

no_volumes() { # nobody named any: the engine keeps them, and a restart finds them
    podman run --detach --pull=never --network=none --name db --env MARIADB_ROOT_PASSWORD="$(cat "$work/root_password")" "$mariadb"
    ready db
    fill db
    podman restart --time=60 db
    ready db
    rows db
    podman rm --force --volumes --time=20 db
}

adopt() { # data of a server without keyward
    start db b localhost/mariadb:10.11
    for _ in $(seq 240); do
        sql db "SELECT 1" 2> /dev/null && podman exec db mariadb-admin --protocol=tcp ping && break
        sleep 0.5
    done
    sql db "CREATE DATABASE d; CREATE TABLE d.encrypted (a TEXT); INSERT INTO d.encrypted VALUES (REPEAT('$plain', 100))"
    gone db
    start db b "$mariadb"
    has "$(refused db)" "If keyward never encrypted these data, set KEYWARD_ADOPT_DATA=yes"
    gone db
    start db b "$mariadb" --env KEYWARD_ADOPT_DATA=yes
    ready db
    rows db
    for _ in $(seq 60); do
        sql db "FLUSH TABLES d.encrypted FOR EXPORT"
        grep -q "$plain" "$(volume b-data)/d/encrypted.ibd" || break
        sleep 0.5
    done
    if grep -q "$plain" "$(volume b-data)/d/encrypted.ibd"; then
        echo "the server did not encrypt it" && exit 1
    fi
    gone db
    gone -v b
}

secret() {
    podman secret inspect wrapping > /dev/null 2>&1 || podman secret create wrapping "$work/wrapping_key"
}

secret_for_all() { # 0444, what engines mount by default
    secret
    start db c "$mariadb" --secret wrapping,mode=0444 --env KEYWARD_KEY_FILE=/run/secrets/wrapping
    ready db
    fill db
    on_disk c-data
    doctor db
    is "the secret" "$(podman exec db stat -c '%U:%G %a' /run/secrets/wrapping)" "root:root 444"
    is "the copy" "$(podman exec db stat -c '%U:%G %a' /dev/shm/keyward/key_file)" "root:mysql 440"
    is "its file system" "$(podman exec db stat -f -c %T /dev/shm/keyward/key_file)" tmpfs
    # keyward itself takes the copy alone.
    podman exec db sed 's|/dev/shm/keyward/key_file|/run/secrets/wrapping|' /etc/keyward/keyward.toml > "$work/direct.toml"
    podman cp "$work/direct.toml" db:/etc/direct.toml
    said=$(podman exec db keyward --config /etc/direct.toml status 2>&1) && { echo "taken: $said"; exit 1; }
    has "$said" "can be read by others"
    # It is in memory, and in no layer or volume.
    if grep -rqF "$(cat "$work/wrapping_key")" "$(podman inspect --format '{{.GraphDriver.Data.UpperDir}}' db)" "$(volume c-config)" "$(volume c-keystore)"; then
        echo "the key is on the disk" && exit 1
    fi
    podman restart --time=60 db
    ready db
    rows db
    gone db
    gone -v c
}

secret_for_server() { # 0440 and the server's group: it is read where it is mounted
    secret
    group=$(podman run --rm --pull=never --network=none --entrypoint id "$mariadb" -g mysql)
    start db c "$mariadb" --secret "wrapping,mode=0440,gid=$group" --env KEYWARD_KEY_FILE=/run/secrets/wrapping
    ready db
    fill db
    doctor db
    is "what the configuration names" "$(podman exec db sed -n 's/^key_file = //p' /etc/keyward/keyward.toml)" '"/run/secrets/wrapping"'
    if podman exec db test -e /dev/shm/keyward/key_file; then
        echo "a copy was made" && exit 1
    fi
    gone db
    gone -v c
}

read_only() { # the container's own layer
    start db c "$mariadb" --read-only --volume "$work/wrapping_key:/wrapping_key:ro" --env KEYWARD_KEY_FILE=/wrapping_key
    ready db
    fill db
    doctor db
    gone db
    gone -v c
}

as_mysql() { # without root from the beginning
    secret
    start db c "$mariadb" --user mysql --cap-drop=all --env MARIADB_MYSQL_LOCALHOST_USER=1 --secret wrapping --env KEYWARD_KEY_FILE=/run/secrets/wrapping
    ready db
    fill db
    on_disk c-data
    podman restart --time=60 db
    ready db
    rows db
    doctor db
    gone db
    gone -v c
    podman secret rm wrapping
}

openshift() { # an account that no image knows, and group 0
    start db c "$mariadb" --user 1000650000:0 --cap-drop=all --security-opt=no-new-privileges
    ready db
    fill db
    on_disk c-data
    same_name db
    doctor db
    is "the keystore" "$(podman exec db stat -c '%u %a' /var/lib/keyward/private/keystore.json)" "1000650000 600"
    is "the wrapping key" "$(podman exec db stat -c '%u %a' /etc/keyward/local.key)" "1000650000 600"
}

openshift_restart() { # another container of the same account
    gone db
    start db c "$mariadb" --user 1000650000:0 --cap-drop=all --security-opt=no-new-privileges
    ready db
    rows db
    gone db
    gone -v c
}

volume_of_a_group() { # as Kubernetes gives it with fsGroup
    keystore=$work/group/keystore config=$work/group/config
    rm -rf "$work/group"
    mkdir -p "$keystore" "$config"
    chown 0:2000 "$keystore" "$config" && chmod 2775 "$keystore" "$config"
    start db c "$mariadb" --user 1000650000:0 --group-add 2000 --cap-drop=all
    has "$(refused db)" "/etc/keyward can be written by group 2000, who could replace what is in it"
    gone db
    chmod +t "$keystore" "$config"
    start db c "$mariadb" --user 1000650000:0 --group-add 2000 --cap-drop=all
    ready db
    fill db
    same_name db
    doctor db
    gone db
    # What happens to a volume at the next start, unless its root is as fsGroup wants it and nothing else is looked at.
    chgrp -R 2000 "$keystore" "$config" && chmod -R g+rw "$keystore" "$config"
    start db c "$mariadb" --user 1000650000:0 --group-add 2000 --cap-drop=all
    ready db
    rows db
    gone db
    gone -v c
}

kubernetes() { # volumes, accounts and mounts of docs/kubernetes.md; a job of the operator's runs without our entrypoint
    user=$(podman run --rm --pull=never --network=none --entrypoint id "$mariadb" -u mysql)
    group=$(podman run --rm --pull=never --network=none --entrypoint id "$mariadb" -g mysql)
    pod=$work/pod
    rm -rf "$pod"
    keystore=$pod/keystore config=$pod/config
    mkdir -p "$keystore" "$config" "$pod/backup" "$pod/secret/..2026"
    chown "0:$group" "$keystore" "$config" "$pod/backup" && chmod 3770 "$keystore" "$config" "$pod/backup"
    cp "$work/wrapping_key" "$pod/secret/..2026/key"
    ln -s ..2026 "$pod/secret/..data" && ln -s ..data/key "$pod/secret/key"
    chown -R "0:$group" "$pod/secret" && chmod 0440 "$pod/secret/..2026/key" && chmod 3777 "$pod/secret"
    set -- --user "$user:$group" --cap-drop=all --volume "$pod/secret:/run/keyward:ro"
    start db c "$mariadb" "$@" --env KEYWARD_KEY_FILE=/run/keyward/key --env MARIADB_MYSQL_LOCALHOST_USER=1
    ready db
    fill db
    on_disk c-data
    doctor db
    is "what the configuration names" "$(podman exec db sed -n 's/^key_file = //p' /etc/keyward/keyward.toml)" '"/run/keyward/key"'
    for what in "--backup --host=127.0.0.1 --user=root --password=$(cat "$work/root_password")" --prepare; do
        # shellcheck disable=SC2086 # words
        podman run --rm --pull=never --network=container:db --entrypoint mariadb-backup "$@" --volume c-data:/var/lib/mysql \
            --volume "$keystore:/var/lib/keyward" --volume "$config:/etc/keyward" --volume "$pod/backup:/backup" "$mariadb" \
            $what --target-dir=/backup/full
    done
    [ -s "$pod/backup/full/d/encrypted.ibd" ]
    gone db
    gone -v c
}

manifests() { # every example is YAML
    python=$(dirname "$(command -v podman-compose)")/python
    for file in "$here"/../compose/*.yaml "$here"/../kubernetes/*.yaml; do
        "$python" -c 'import sys, yaml; print(sys.argv[1], len(list(yaml.safe_load_all(open(sys.argv[1])))))' "$file"
    done
}

other_account() { # the next base image has another number for mysql
    start db c "$mariadb"
    ready db
    fill db
    gone db
    for kind in data keystore; do chown -R 7777:7777 "$(volume "c-$kind")"; done
    chgrp -R 7777 "$(volume c-config)"
    start db c "$mariadb"
    ready db
    rows db
    doctor db
    gone db
    gone -v c
}

two_at_once() { # on one keystore that is not made yet
    for each in 1 2; do
        keystore=d-keystore config=d-config start "db$each" "d$each" "$mariadb"
    done
    for each in 1 2; do
        ready "db$each"
        fill "db$each"
        rows "db$each"
        doctor "db$each"
    done
    gone db1 db2
    podman volume rm d1-data d2-data d-keystore d-config
}

asks_only() { # no keystore is made for a question, and other commands run
    for words in "mariadbd --version" "--version" "keyward --version" "mariadb-backup --version"; do
        # shellcheck disable=SC2086 # words
        podman run --rm --pull=never --network=none --volume e-config:/etc/keyward "$mariadb" $words
    done
    is "the number of files" "$(find "$(volume e-config)" -type f | wc -l)" 0
    podman run --rm --pull=never --network=none --volume e-config:/etc/keyward --volume e-keystore:/var/lib/keyward "$mariadb" keyward-init
    [ -s "$(volume e-keystore)/keystore.json" ]
    podman volume rm e-config e-keystore
}

component=/usr/lib/mysql/plugin/component_keyring_keyward.cnf

mysql_fresh() {
    start mysql m "$mysql"
    ready mysql
    fill mysql
    on_disk m-data
    is "the keyring" "$(sql mysql "SELECT STATUS_VALUE FROM performance_schema.keyring_component_status WHERE STATUS_KEY = 'Component_status'")" Active
    doctor mysql --config "$component"
}

mysql_restart() {
    podman restart --time=60 mysql
    ready mysql
    rows mysql
    sql mysql "ALTER INSTANCE ROTATE INNODB MASTER KEY"
}

mysql_replaced() {
    gone mysql
    start mysql m "$mysql"
    ready mysql
    rows mysql
    doctor mysql --config "$component"
}

mysql_lost() {
    gone mysql
    sums m-data > "$work/before"
    keystore=lost-keystore config=lost-config start mysql m "$mysql"
    has "$(refused mysql)" "there are data in /var/lib/mysql, but neither"
    gone mysql
    podman volume rm lost-keystore lost-config
    sums m-data | diff "$work/before" -
    gone -v m
}

compose() { # compose FILE... -- WORD...: the project of the first file's name
    project=${1%.yaml}
    files=
    while [ "$1" != -- ]; do
        files="$files --file $1"
        shift
    done
    shift
    examples
    cd "$work/compose"
    # shellcheck disable=SC2086 # words
    podman-compose --project-name "$project" $files "$@"
}

examples() { # a copy of the examples, with secrets as their comments make them
    [ ! -e "$work/compose" ] || return 0
    cp -r "$here/../compose" "$work/compose"
    cp "$work/root_password" "$work/wrapping_key" "$work/compose"
    openssl rand -hex 16 > "$work/compose/vault_token"
    chmod 0644 "$work/compose"/*
}

local_key() {
    compose local.yaml -- up --detach
    ready local_db_1
    fill local_db_1
    on_disk local_data
    doctor local_db_1
}

backup() {
    compose local.yaml backup.yaml -- --profile backup run --rm backup
    is "the number of backups" "$(find "$(volume local_backup)" -maxdepth 1 -name '2*' | wc -l)" 1
    is "the number of keystores" "$(find "$(volume local_backup-keys)" -name '2*.json' | wc -l)" 1
    if grep -rq "$plain" "$(volume local_backup)"/*/d/encrypted.ibd; then
        echo "the backup is in the clear" && exit 1
    fi
    # Neither holds what opens it.
    if grep -rqF "$(cat "$work/wrapping_key")" "$(volume local_backup)" "$(volume local_backup-keys)"; then
        echo "the wrapping key is in the backup" && exit 1
    fi
    rows local_db_1
}

restore() { # all volumes are lost but those of the backup
    compose local.yaml -- stop
    podman rm --force local_db_1
    podman volume rm local_data local_keystore
    for kind in data keystore; do podman volume create "local_$kind"; done
    cp -a "$(volume local_backup)"/2*/. "$(volume local_data)"
    cp -a "$(volume local_backup-keys)"/2*.json "$(volume local_keystore)/keystore.json"
    compose local.yaml -- up --detach
    ready local_db_1
    rows local_db_1
    doctor local_db_1
    compose local.yaml backup.yaml -- down --volumes
    # It knows its own, and two of them were made by hand.
    podman volume rm --force local_data local_keystore local_backup local_backup-keys
}

vault() {
    compose vault.yaml -- up --detach
    ready vault_db_1
    fill vault_db_1
    on_disk vault_data
    doctor vault_db_1
    has "$(podman exec vault_db_1 keyward status)" "vault-transit"
    podman exec vault_db_1 test ! -e /dev/shm/keyward/admin_token_file
}

vault_restart() { # with the role's own secret: the administrator's token is no longer needed
    podman restart --time=60 vault_db_1
    ready vault_db_1
    rows vault_db_1
    doctor vault_db_1
    compose vault.yaml -- down --volumes
}

synced() { # synced NODE SIZE
    for _ in $(seq 90); do
        found=$(sql "$1" "SHOW STATUS WHERE Variable_name IN ('wsrep_cluster_size', 'wsrep_local_state_comment')" | cut -f 2 | tr '\n' ' ') || true
        [ "$found" != "Synced $2 " ] || return 0
        sleep 1
    done
    echo "$1: $found" && podman logs "$1" && exit 1
}

galera() {
    export FIRST=--wsrep-new-cluster
    compose galera.yaml -- up --detach node1
    ready galera_node1_1
    fill galera_node1_1
    compose galera.yaml -- up --detach
    for node in 1 2 3; do synced "galera_node${node}_1" 3; done
    for node in 1 2 3; do
        ready "galera_node${node}_1"
        rows "galera_node${node}_1"
        doctor "galera_node${node}_1"
        on_disk "galera_data$node"
    done
    has "$(podman logs galera_node2_1 galera_node3_1 2>&1)" "mariabackup"
    sql galera_node3_1 "INSERT INTO d.encrypted VALUES ('from 3')"
    is "the rows of node 1" "$(sql galera_node1_1 "SELECT COUNT(*) FROM d.encrypted")" 2
    sql galera_node1_1 "SET GLOBAL keyward_rotate_key = 1"
}

galera_node() { # loses its data and gets them from another, with a key that was rotated
    podman rm --force --time=20 galera_node3_1
    podman volume rm galera_data3
    FIRST=--wsrep-new-cluster compose galera.yaml -- up --detach --no-recreate node3
    synced galera_node3_1 3
    is "the rows of node 3" "$(sql galera_node3_1 "SELECT COUNT(*) FROM d.encrypted")" 2
    on_disk galera_data3
    doctor galera_node3_1
}

galera_first() { # the first node becomes one like the others
    podman rm --force --time=60 galera_node1_1
    compose galera.yaml -- up --detach --no-recreate node1
    synced galera_node1_1 3
    has "$(podman inspect --format '{{.Args}}' galera_node2_1)" "--wsrep-on=ON"
    case "$(podman inspect --format '{{.Args}}' galera_node1_1)" in *new-cluster*) exit 1 ;; esac
    rows galera_node1_1
    compose galera.yaml -- down --volumes
}

nothing_left() {
    is "what is left" "$(podman ps --all --quiet; podman volume ls --quiet; podman network ls --quiet --filter name=_default)" ""
}

if [ $# = 3 ] && [ "$3" = "${KEYWARD_STEP:-}" ]; then
    "$3"
    exit
fi
shift
[ -s "$work/root_password" ] || echo "not-a-secret" > "$work/root_password"
[ -s "$work/wrapping_key" ] || openssl rand -hex 32 > "$work/wrapping_key"
chmod 0644 "$work/root_password" "$work/wrapping_key"
failed=0
# A process a step: in a function that is asked whether it failed, `set -e` has no effect.
# shellcheck disable=SC2086 # words
[ $# -gt 0 ] || set -- $steps
for step; do
    since=$(date +%s%N)
    if KEYWARD_STEP=$step timeout 600 sh -x "$0" "$work" step "$step" > "$work/said" 2>&1; then verdict=ok; else verdict=FAILED; fi
    took=$((($(date +%s%N) - since) / 1000000))
    echo "step $step $verdict $took ms"
    if [ $verdict = FAILED ]; then
        cat "$work/said"
        failed=1
        # What it left would fail the next ones, too.
        { podman rm --all --force --time=5 && podman network prune --force && podman volume rm --all --force && podman secret rm --all; } > "$work/said" 2>&1
    fi
done
exit $failed
