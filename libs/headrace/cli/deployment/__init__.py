"""From one description of a deployment: the settings of each service, and the files of Kubernetes or compose around them."""
