# A service address is a port of its own, which no replica has: one of them answers for it, by VRRP. The floating IP is
# mapped to it for good.

resource "openstack_networking_port_v2" "service" {
  for_each           = local.foundation.ports
  name               = each.value.name
  description        = each.value.description
  network_id         = local.network_ids[each.value.network]
  security_group_ids = [openstack_networking_secgroup_v2.pool[each.value.security_group].id]

  fixed_ip {
    subnet_id  = local.subnet_ids[each.value.subnet]
    ip_address = each.value.address
  }
}

resource "openstack_networking_floatingip_v2" "pool" {
  for_each    = local.foundation.floating_ips
  description = each.value.description
  pool        = data.openstack_networking_network_v2.given[each.value.external_network].name
  port_id     = each.value.port == null ? null : openstack_networking_port_v2.service[each.value.port].id

  depends_on = [openstack_networking_router_interface_v2.stack]

  # One that was moved by hand is mapped back by the scalers; without service addresses they move it themselves.
  lifecycle {
    ignore_changes = [port_id, fixed_ip]
  }
}
