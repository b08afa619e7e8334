"""What is wrong with this machine, the models or the pipeline documents."""
