#!/bin/sh
# Puts a stack's port map into the host's network namespace, keeps it there, and removes it at the end.
#   publish.sh keep|remove TABLE BRIDGE ADDRESS "UDP_PORT ..."
set -u
action=$1 table=$2 bridge=$3 address=$4 ports=$5

# The engine drops what it did not publish itself; DOCKER-USER is its place for exceptions.
accept() {
	iptables -w 5 "$1" DOCKER-USER -o "$bridge" -m conntrack --ctstate DNAT -m comment --comment "$table" -j ACCEPT
}

remove() {
	while accept -D 2>/dev/null; do :; done
	nft delete table ip "$table" 2>/dev/null
}

is_there() {
	accept -C 2>/dev/null && nft list chain ip "$table" publish >/dev/null 2>&1
}

install() {
	accept -C 2>/dev/null || accept -I || return 1
	nft -f /etc/smd/publish.nft || return 1
	# A caller that tried before the map was there would never be mapped while it keeps trying.
	for port in $ports; do
		conntrack -D -p udp --orig-dst "$address" --reply-src "$address" --orig-port-dst "$port" >/dev/null 2>&1
	done
	echo "publish: $table is mapped"
}

if [ "$action" = remove ]; then
	remove
	exit 0
fi
trap 'remove; exit 0' TERM INT
while :; do
	if ! is_there && ! install; then
		echo "publish: $table can't be mapped" >&2
		exit 1
	fi
	sleep 5 &
	wait $!
done
