# One stack. Its effective form comes first: ./smd config --json > deploy/terraform/example/effective-stack.json

terraform {
  required_providers {
    openstack = {
      source = "terraform-provider-openstack/openstack"
    }
  }
}

variable "effective_stack" {
  description = "What `smd config --json` wrote."
  type        = string
  default     = "effective-stack.json"
}

variable "stack_file" {
  description = "The stack file that it was made from."
  type        = string
  default     = "../../../stack.yaml"
}

variable "smd" {
  description = "The smd command."
  type        = string
  default     = "../../../smd"
}

variable "bootstrap" {
  description = "Make the first scaler, too."
  type        = bool
  default     = true
}

variable "public_key" {
  description = "An operator's SSH public key, for the key pair that the stack file names."
  type        = string
  default     = null
}

locals {
  stack = jsondecode(file(var.effective_stack))
}

# Without a cloud of clouds.yaml in the stack file: OS_* of the environment, as everywhere.
provider "openstack" {
  cloud = local.stack.openstack.cloud
}

module "stack" {
  source     = "../openstack"
  stack      = local.stack
  stack_file = var.stack_file
  smd        = var.smd
  bootstrap  = var.bootstrap
  public_key = var.public_key
}

output "floating_ips" {
  description = "What terminals call (kamailio), and where TURN is (coturn)."
  value       = module.stack.floating_ips
}
