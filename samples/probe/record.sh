#!/usr/bin/env bash
# Records original.pcap between two strongSwan gateways, and writes the keys of its SAs:
#
#     sudo samples/probe/record.sh DIR
#
# DIR gets original.pcap, esp_keys.txt, keys.yaml (fresh test keys for the Diet-ESP capture), and the logs of both gateways.
# Every run gives other keys, SPIs and times. It takes a little more than a minute.
#
# Needs root, iproute2, ethtool, tcpdump, dietesp (or its path in DIETESP), Python with aiocoap (another interpreter than
# python3 in PYTHON), and from Debian: strongswan-charon strongswan-swanctl libcharon-extra-plugins
# libstrongswan-standard-plugins libstrongswan-extra-plugins. ESP runs in user space (kernel-libipsec), because not every
# kernel has AES-CCM.
#
# All traffic stays in four network namespaces, which are removed at the end:
#
#     sensor fd0a::1 -- fd0a::2 gateway-a fd01::1 == fd01::2 gateway-b fd0b::2 -- fd0b::1 server
set -euo pipefail

out=$(mkdir -p "${1:?usage: record.sh DIR}" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
run=dietesp-$$ # prefix of the namespaces
started=()

finish() {
    kill "${started[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    for node in sensor a b server; do ip netns del "$run-$node" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

inside() { # NODE COMMAND...: run in the namespace of NODE
    local node=$1
    shift
    ip netns exec "$run-$node" "$@"
}

start() { # NODE COMMAND...: run in the namespace of NODE in the background, until the end
    local node=$1
    shift
    ip netns exec "$run-$node" "$@" &
    started+=($!)
}

wait_for() { # COMMAND...: until it succeeds
    for _ in {1..100}; do
        "$@" && return
        sleep 0.1
    done
    echo "record.sh: still fails after 10 seconds: $*" >&2
    exit 1
}

link() { # NODE INTERFACE ADDRESS NODE INTERFACE ADDRESS: one cable
    ip -n "$run-$1" link add "$2" type veth peer name "$5" netns "$run-$4"
    for end in "$1 $2 $3" "$4 $5 $6"; do
        set -- $end
        # Without this the kernel leaves UDP checksums to hardware that is not there.
        inside "$1" ethtool -K "$2" tx off >/dev/null
        ip -n "$run-$1" addr add "$3/64" dev "$2" nodad
        ip -n "$run-$1" link set "$2" up
    done
}

# Flow labels stay 0, because the rules take the inner one from the outer header.
for node in sensor a b server; do
    ip netns add "$run-$node"
    inside "$node" sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0 \
        net.ipv6.conf.default.router_solicitations=0 net.ipv6.auto_flowlabels=0
    ip -n "$run-$node" link set lo up
done
link sensor eth0 fd0a::1 a lan fd0a::2
link a wan fd01::1 b wan fd01::2
link b lan fd0b::2 server eth0 fd0b::1
ip -n "$run-sensor" route add fd0b::/64 via fd0a::2
ip -n "$run-server" route add fd0a::/64 via fd0b::2

gateway() { # NODE LOCAL REMOTE LOCAL_SELECTOR REMOTE_SELECTOR
    mkdir -p "$work/$1"
    cat >"$work/$1/strongswan.conf" <<CONF
charon {
    # Requests are sent 20 ms late, so that two rekeys that start at the same time cross each other.
    send_delay = 20
    send_delay_response = no
    load = random nonce aes sha1 sha2 hmac kdf ccm ctr curve25519 openssl kernel-libipsec kernel-netlink socket-default vici updown
    plugins {
        vici {
            socket = unix://$work/$1/vici
        }
    }
    filelog {
        log {
            path = $out/charon-$1.log
            default = 1
            chd = 4 # with keys
            flush_line = yes
        }
    }
}
CONF
    # swanctl prints a warning for each of these folders that is missing.
    mkdir "$work/$1"/{x509,x509ca,x509ocsp,x509aa,x509ac,x509crl,pubkey,private,rsa,ecdsa,bliss,pkcs8,pkcs12}
    cat >"$work/$1/swanctl.conf" <<CONF
connections {
    probe {
        version = 2
        local_addrs = $2
        remote_addrs = $3
        encap = yes
        mobike = no
        proposals = aes128-sha256-x25519
        local {
            auth = psk
            id = $2
        }
        remote {
            auth = psk
            id = $3
        }
        children {
            coap {
                local_ts = $4
                remote_ts = $5
                esp_proposals = aes128ccm8-x25519
                rekey_time = 24s
                rand_time = 0s
            }
        }
    }
}
secrets {
    ike {
        secret = "test key"
    }
}
CONF
    # A /run of its own, for charon's pid file.
    start "$1" env STRONGSWAN_CONF="$work/$1/strongswan.conf" sh -c 'mount -t tmpfs tmpfs /run && exec /usr/lib/ipsec/charon'
    wait_for test -S "$work/$1/vici"
    vici "$1" --load-all --file "$work/$1/swanctl.conf"
}

vici() { # NODE SWANCTL_ARGUMENTS...
    local node=$1
    shift
    STRONGSWAN_CONF="$work/$node/strongswan.conf" swanctl "$@" --uri "unix://$work/$node/vici" >/dev/null
}

start a tcpdump -Z root -i wan -w "$out/original.pcap" -U --nano 2>"$work/tcpdump.log"
tcpdump=$!
wait_for grep -q listening "$work/tcpdump.log"
gateway a fd01::1 fd01::2 'fd0a::/64[udp/5001]' 'fd0b::/64[udp/5683]'
gateway b fd01::2 fd01::1 'fd0b::/64[udp/5683]' 'fd0a::/64[udp/5001]'
vici a --initiate --child coap

start server "$python" "$here/sensor.py" server
sleep 1
start sensor "$python" "$here/sensor.py" sensor
sensor=$!
# Each gateway rekeys once when told to. 24 seconds after the last time both gateways rekey at the same moment, and collide.
sleep 10
vici b --rekey --child coap
sleep 10
vici a --rekey --child coap
wait "$sensor"
sleep 6
kill -INT "$tcpdump"
wait "$tcpdump" || true
"${DIETESP:-dietesp}" keys export "$out/charon-a.log" | "$python" "$here/keys.py" "$out"
