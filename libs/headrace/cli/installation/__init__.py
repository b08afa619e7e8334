"""What one installation is made of: folders, ports, secrets and the settings of its services."""
