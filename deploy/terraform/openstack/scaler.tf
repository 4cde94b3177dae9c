# The scalers make the rest. There is no triggers_replace here, and must be none: what is replaced is destroyed first,
# and that would take the running stack down.

# Two resources, because a bootstrap that failed is tainted, for which Terraform runs no provisioner at its end; and
# because `bootstrap = false` must not end a stack.
resource "terraform_data" "replicas" {
  input = {
    smd        = var.smd
    stack_file = var.stack_file
  }

  depends_on = [
    openstack_networking_subnet_v2.stack,
    openstack_networking_router_interface_v2.stack,
    openstack_networking_secgroup_rule_v2.pool,
    openstack_networking_port_v2.service,
    openstack_networking_floatingip_v2.pool,
    openstack_compute_keypair_v2.operators,
  ]

  # Before anything else is destroyed: replicas are in these networks.
  provisioner "local-exec" {
    when    = destroy
    command = "\"$SMD_COMMAND\" down --stack \"$SMD_STACK\""

    environment = {
      SMD_COMMAND = self.input.smd
      SMD_STACK   = self.input.stack_file
    }
  }
}

resource "terraform_data" "bootstrap" {
  count      = var.bootstrap ? 1 : 0
  depends_on = [terraform_data.replicas]

  provisioner "local-exec" {
    command = "\"$SMD_COMMAND\" bootstrap --stack \"$SMD_STACK\""

    environment = {
      SMD_COMMAND = var.smd
      SMD_STACK   = var.stack_file
    }
  }
}
