# MariaDB with keyward. The context is this folder with keyward_VERSION-1_amd64.deb in it.
ARG BASE=docker.io/library/mariadb:10.11
FROM $BASE
COPY keyward_*_amd64.deb /tmp/keyward.deb
# Lists are fetched only where the base image lacks what the package depends on.
RUN export DEBIAN_FRONTEND=noninteractive; get="apt-get install --yes --no-install-recommends /tmp/keyward.deb"; \
    $get || { apt-get update && $get && rm -rf /var/lib/apt/lists/*; } && \
    rm /tmp/keyward.deb && \
    sed -i 's/^#\([a-z]\)/\1/' /etc/mysql/mariadb.conf.d/keyward.cnf && \
    install --directory --mode=1777 /etc/keyward /var/lib/keyward
COPY bin/ /usr/local/bin/
# Data, keystore, configuration: each of them outlives the container, and is backed up apart from the others.
VOLUME /var/lib/mysql /var/lib/keyward /etc/keyward
HEALTHCHECK --start-period=5m CMD ["keyward-health"]
ENTRYPOINT ["keyward-entrypoint"]
CMD ["mariadbd"]
