variable "stack" {
  description = "The effective stack, as `smd config --json` prints it: jsondecode(file(...))."
  type        = any

  validation {
    condition     = can(var.stack.foundation.networks)
    error_message = "This is no effective stack with `provider: openstack`; make it with: smd config --json."
  }
}

variable "stack_file" {
  description = "The stack file that the effective stack was made from, for smd bootstrap and smd down."
  type        = string
}

variable "smd" {
  description = "The smd command."
  type        = string
  default     = "smd"
}

variable "bootstrap" {
  description = "Make the first scaler when everything else is there; false: run smd bootstrap by hand."
  type        = bool
  default     = true
}

variable "public_key" {
  description = "An operator's SSH public key, of which the key pair openstack.key_pair is made; null: it is there already, or none is wanted."
  type        = string
  default     = null
}
