# MySQL with keyward. The context is this folder with keyward-VERSION-linux-x86_64.tar.gz in it.
ARG BASE=docker.io/library/mysql:8.4
FROM $BASE
# Unpacked by the builder: the base image need not have tar.
ADD keyward-*-linux-x86_64.tar.gz /opt/
RUN set -e; mv /opt/keyward-* /opt/keyward; ln -s /opt/keyward/bin/keyward /usr/bin/keyward; \
    for plugins in /usr/lib64/mysql/plugin /usr/lib/mysql/plugin; do [ -d $plugins ] && break; done; \
    ln -s /opt/keyward/lib/keyward.so $plugins/component_keyring_keyward.so; \
    echo '{ "config": "/etc/keyward/keyward.toml" }' > $plugins/component_keyring_keyward.cnf; \
    echo '{ "components": "file://component_keyring_keyward" }' > /usr/sbin/mysqld.my; \
    mkdir -p /etc/keyward /var/lib/keyward; chmod 1777 /etc/keyward /var/lib/keyward
COPY mysql.cnf /etc/mysql/conf.d/keyward.cnf
COPY bin/ /usr/local/bin/
# Data, keystore, configuration: each of them outlives the container, and is backed up apart from the others.
VOLUME /var/lib/mysql /var/lib/keyward /etc/keyward
HEALTHCHECK --start-period=5m CMD ["keyward-health"]
ENTRYPOINT ["keyward-entrypoint"]
CMD ["mysqld"]
