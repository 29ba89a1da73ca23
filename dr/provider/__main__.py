"""`python -m dr.provider ENGINE`: the Pulumi CLI starts this as the plugin "dr"."""

from dr.plugin.serving import serve
from dr.provider.adapter import Configuration, Provider
from dr.provider.registry import registry
from dr.provider.world import World

VERSION = "0.1.0"


def main() -> None:
    configuration: Configuration = {}
    serve(lambda log: Provider(log, registry(World.real(configuration)), configuration), VERSION)


if __name__ == "__main__":
    main()
