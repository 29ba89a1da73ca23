"""Key Vaults and their keys: records. Target local keeps its secrets in a folder (`dr.target.secrets`)."""

from __future__ import annotations

from typing import Any

from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error
from dr.local.standin.records import Record

_VAULT = "/resourceGroups/{resourceGroupName}/providers/Microsoft.KeyVault/vaults/{vaultName}"


class KeyVault(Kind):
    resource_type = "azure-native:keyvault:Vault"
    arm_type = "Microsoft.KeyVault/vaults"
    path = _VAULT
    name_input = "vaultName"
    name_pattern = r"(?=.{3,24}$)[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*"

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        outputs = self.outputs(record)
        uri = f"https://{record.name}.vault.azure.net/"
        return {**outputs, "properties": {**record.inputs.get("properties", {}), "vaultUri": uri}}

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        before, after = record.inputs.get("properties", {}), inputs.get("properties", {})
        if before.get("enablePurgeProtection") and not after.get("enablePurgeProtection"):
            raise azure_error(
                "BadRequest", 'the property "enablePurgeProtection" cannot be set to false: it is irreversible'
            )


class Key(Kind):
    resource_type = "azure-native:keyvault:Key"
    arm_type = "Microsoft.KeyVault/vaults/keys"
    path = f"{_VAULT}/keys/{{keyName}}"
    parent = _VAULT
    name_input = "keyName"
    name_pattern = r"[A-Za-z0-9-]{1,127}"
    also_replacing = ("properties",)

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        uri = f"https://{record.inputs['vaultName']}.vault.azure.net/keys/{record.name}"
        return {**self.outputs(record), "keyUri": uri}
