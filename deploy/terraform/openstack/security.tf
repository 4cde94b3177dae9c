# The least that each pool needs; deploy/terraform/README.md says why it is what it is.

resource "openstack_networking_secgroup_v2" "pool" {
  for_each    = local.foundation.security_groups
  name        = each.value.name
  description = each.value.description
}

resource "openstack_networking_secgroup_rule_v2" "pool" {
  for_each          = local.foundation.rules
  security_group_id = openstack_networking_secgroup_v2.pool[each.value.security_group].id
  description       = each.value.description
  direction         = "ingress"
  ethertype         = "IPv4"
  protocol          = each.value.protocol
  port_range_min    = each.value.first_port
  port_range_max    = each.value.last_port
  remote_ip_prefix  = each.value.source
}
