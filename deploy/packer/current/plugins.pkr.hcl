# For Packer 1.7 and later: "packer init deploy/packer/current" installs what image.pkr.hcl uses. It is in a
# directory of its own, for Debian's Packer 1.6 has these built in and does not know the block.
packer {
  required_version = ">= 1.7.0"
  required_plugins {
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = ">= 1.1.0"
    }
    openstack = {
      source  = "github.com/hashicorp/openstack"
      version = ">= 1.1.0"
    }
  }
}
