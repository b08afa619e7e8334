"""Entry point of the ingress: the process becomes Envoy with the application inside it."""

from headrace.start import program

if __name__ == "__main__":
    program("services.ingress.envoy.launch:main")
