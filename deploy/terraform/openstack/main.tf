# What a stack stands on: all of it is said by `smd config --json` under `foundation`, which `smd bootstrap` makes the
# same things from where there is no Terraform. Replicas and server groups are not here: the scalers make them, and find
# what is here by its names and descriptions (docs/decisions/0110-openstack-marks-and-lease.md).

locals {
  foundation = var.stack.foundation

  network_ids = merge(
    { for key, one in openstack_networking_network_v2.stack : key => one.id },
    { for key, one in data.openstack_networking_network_v2.given : key => one.id },
  )
  subnet_ids = merge(
    { for key, one in openstack_networking_subnet_v2.stack : key => one.id },
    { for key, one in data.openstack_networking_subnet_v2.given : key => one.id },
  )
}

data "openstack_networking_network_v2" "given" {
  for_each   = local.foundation.given_networks
  name       = each.value.name
  network_id = each.value.id
  external   = each.value.external
}

data "openstack_networking_subnet_v2" "given" {
  for_each   = local.foundation.given_subnets
  network_id = data.openstack_networking_network_v2.given[each.value.network].id
  cidr       = each.value.cidr
}

resource "openstack_networking_network_v2" "stack" {
  for_each    = local.foundation.networks
  name        = each.value.name
  description = each.value.description
}

resource "openstack_networking_subnet_v2" "stack" {
  for_each        = local.foundation.subnets
  name            = each.value.name
  network_id      = openstack_networking_network_v2.stack[each.value.network].id
  ip_version      = 4
  cidr            = each.value.cidr
  gateway_ip      = each.value.gateway
  no_gateway      = each.value.gateway == null ? true : null
  enable_dhcp     = each.value.dhcp
  dns_nameservers = each.value.dns_servers

  allocation_pool {
    start = each.value.first
    end   = each.value.last
  }
}

resource "openstack_networking_router_v2" "stack" {
  for_each            = local.foundation.routers
  name                = each.value.name
  description         = each.value.description
  external_network_id = local.network_ids[each.value.external_network]
}

resource "openstack_networking_router_interface_v2" "stack" {
  for_each  = local.foundation.routers
  router_id = openstack_networking_router_v2.stack[each.key].id
  subnet_id = local.subnet_ids[each.value.subnet]
}

# The operators' key pair belongs to the user, not to the stack: it is made only when its public key is given.
resource "openstack_compute_keypair_v2" "operators" {
  count      = var.public_key == null ? 0 : 1
  name       = var.stack.openstack.key_pair
  public_key = var.public_key

  lifecycle {
    precondition {
      condition     = var.stack.openstack.key_pair != null
      error_message = "public_key is given and the stack file names no key pair: set openstack.key_pair."
    }
  }
}
