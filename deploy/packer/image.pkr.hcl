# The image of one role, from a Debian 12 cloud image on OpenStack. Works with Packer 1.6 (Debian's) and later;
# later ones need the plugins that current/ names. README.md says how it is used.

variable "role" {
  type        = string
  description = "kamailio, coturn, gateway, scaler or conference-demo."
}

variable "version" {
  type        = string
  description = "The version of the images: smd version --images."
}

variable "commit" {
  type        = string
  description = "The commit that the image is built from: git rev-parse HEAD."
}

variable "source_image" {
  type        = string
  default     = "debian-12"
  description = "The name of a Debian 12 cloud image in Glance."
}

variable "flavor" {
  type        = string
  description = "The flavour of the server on which the image is built."
}

variable "network" {
  type        = string
  description = "The id of the network of that server; from there it reaches Debian's packages."
}

variable "floating_ip_network" {
  type        = string
  default     = ""
  description = "The name or id of the network of its floating IP; empty: it is reached without one."
}

variable "security_groups" {
  type        = list(string)
  default     = ["default"]
  description = "Must let SSH in from here."
}

variable "ssh_username" {
  type        = string
  default     = "debian"
  description = "The user of the source image."
}

variable "apt_proxy" {
  type        = string
  default     = ""
  description = "An HTTP proxy by which the server reaches Debian's packages (http://ADDRESS:PORT); the image does not have it."
}

variable "image_visibility" {
  type        = string
  default     = "private"
  description = "Who sees the image."
}

variable "ansible_playbook" {
  type        = string
  default     = "ansible-playbook"
  description = "The program; ansible-core 2.18, as deploy/ansible/requirements.lock has it."
}

variable "smd" {
  type        = string
  default     = ""
  description = "The program that writes the application; empty: this checkout's ./smd."
}

# The cloud and its credentials come from the environment (OS_CLOUD, or OS_AUTH_URL and the rest).
source "openstack" "role" {
  image_name          = "smd-${var.role}"
  image_visibility    = var.image_visibility
  source_image_name   = var.source_image
  flavor              = var.flavor
  networks            = [var.network]
  floating_ip_network = var.floating_ip_network
  security_groups     = var.security_groups
  ssh_username        = var.ssh_username
  ssh_timeout         = "10m"
  instance_name       = "smd-build-${var.role}"

  # The image's own properties: the provider takes the image whose smd_version is the stack's.
  metadata = {
    smd_role    = var.role
    smd_version = var.version
    smd_commit  = var.commit
    os_type     = "linux"
    os_distro   = "debian"
    os_version  = "12"
  }
}

build {
  sources = ["source.openstack.role"]

  provisioner "ansible" {
    playbook_file = "${path.root}/../ansible/image.yml"
    command       = var.ansible_playbook
    user          = var.ssh_username
    # Ansible speaks to the server itself: Packer's own SSH proxy is slower, and old ones know no new keys.
    use_proxy = false
    ansible_env_vars = [
      "ANSIBLE_CONFIG=${path.root}/../ansible/ansible.cfg",
      "ANSIBLE_HOST_KEY_CHECKING=False",
    ]
    extra_arguments = concat(
      ["--extra-vars", "smd_role=${replace(var.role, "-", "_")}"],
      var.apt_proxy == "" ? [] : ["--extra-vars", "common_apt_proxy=${var.apt_proxy}"],
      var.smd == "" ? [] : ["--extra-vars", "common_smd=${var.smd}"],
    )
  }
}
