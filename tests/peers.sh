#!/bin/sh
# Install the real peers the tests run against, where they are missing. Nothing is started: each test starts its own.
set -eu

packages() {
    need curl curl
    need nginx nginx-light
    need wrk wrk
    need influxd influxdb
    need rrdtool rrdtool
    need snmpget snmp
    need snmpd snmpd
    need snmptrapd snmptrapd
    need smilint smitools
    need promtool prometheus
    need prometheus-snmp-exporter prometheus-snmp-exporter
    need chromium chromium
    need uwsgi-core uwsgi-core
    need_file /usr/lib/uwsgi/plugins/python3_plugin.so uwsgi-plugin-python3
    need systemd-analyze systemd
    need setpriv util-linux
    need ps procps
    need script bsdutils
    need socat socat
    need ip iproute2
    need ss iproute2
    need nsenter util-linux
    need dockerd docker.io
    need docker-compose docker-compose
    need debootstrap debootstrap
    # the compiled build's
    need cc gcc
    need_file "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" python3-dev
}

need() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || echo "$2"; }
need_file() { test -e "$1" || echo "$2"; }

missing=$(packages | sort -u | tr '\n' ' ')
test -n "${missing% }" || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "the tests need these Debian packages: $missing" >&2
    echo "install them as root: apt-get install --no-install-recommends $missing" >&2
    exit 1
fi
# A server's package must not start it: policy-rc.d(8) answers "not allowed" while we install.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # one word per package
apt-get install -y -qq --no-install-recommends $missing >/dev/null
