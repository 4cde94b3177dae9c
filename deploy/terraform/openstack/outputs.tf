output "floating_ips" {
  description = "By pool: what terminals call (kamailio), and where TURN is (coturn). For A and SRV records."
  value       = { for pool, ip in openstack_networking_floatingip_v2.pool : pool => ip.address }
}

output "service_addresses" {
  description = "By pool: the private address that the floating IP is mapped to, for good."
  value       = { for pool, port in local.foundation.ports : pool => port.address }
}

output "networks" {
  description = "The ids of the stack's own network, of the lease's, and of the external one."
  value       = local.network_ids
}
