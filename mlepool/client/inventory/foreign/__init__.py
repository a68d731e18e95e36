"""Inventories of other programs: ssh's, Ansible's."""
