"""What is known of Azure's regions without asking Azure. Pure.

Source: Microsoft Learn, "List of Azure regions" (September 2025). Regions are added and get zones, so what is not as
this table has it is a concern and never an error.
"""

from __future__ import annotations

_WITH_ZONES_AND_PAIR = frozenset([
    "australiaeast", "brazilsouth", "canadacentral", "centralindia", "centralus", "eastasia", "eastus",
    "eastus2", "francecentral", "germanywestcentral", "japaneast", "japanwest", "koreacentral", "northeurope",
    "norwayeast", "southafricanorth", "southcentralus", "southeastasia", "swedencentral", "switzerlandnorth",
    "uaenorth", "uksouth", "westeurope", "westus2", "westus3",
])  # fmt: skip
_WITH_ZONES = frozenset([
    "austriaeast", "belgiumcentral", "chilecentral", "denmarkeast", "indonesiacentral", "israelcentral",
    "italynorth", "malaysiawest", "mexicocentral", "newzealandnorth", "polandcentral", "qatarcentral",
    "spaincentral",
])  # fmt: skip
_WITH_PAIR = frozenset([
    "australiacentral", "australiacentral2", "australiasoutheast", "brazilsoutheast", "canadaeast",
    "francesouth", "germanynorth", "koreasouth", "northcentralus", "norwaywest", "southafricawest",
    "southindia", "switzerlandwest", "uaecentral", "ukwest", "westcentralus", "westindia", "westus",
])  # fmt: skip
_OTHER_CLOUDS = ("usgov", "usdod", "china")

NAMES = _WITH_ZONES_AND_PAIR | _WITH_ZONES | _WITH_PAIR


def is_known(region: str) -> bool:
    """Return whether the region is in the table or belongs to a cloud that the table is not about."""
    return region in NAMES or region.startswith(_OTHER_CLOUDS)


def lacks_zones(region: str) -> bool:
    return region in _WITH_PAIR


def lacks_pair(region: str) -> bool:
    return region in _WITH_ZONES
