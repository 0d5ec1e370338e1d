"""A database as RDS and Secrets Manager make it: a server, its master, and secrets that know it.

moto knows a cluster as a record without a port to connect to, and makes none of these by CloudFormation. Here a cluster
is a PostgreSQL of its own, on this machine, with a master that is no superuser; RDS's role for tokens is there, and the
master's password in a secret. Of an instance, a proxy and what belongs to them there is a record.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from devkit.servers.passwords import new_password
from devkit.servers.postgres import Postgres

from .failure import Failed
from .resources import Recorded, Recorder

if TYPE_CHECKING:
    from moto.secretsmanager.models import SecretsManagerBackend

    from .resources import Definition, Maker

CLUSTER, INSTANCE = "AWS::RDS::DBCluster", "AWS::RDS::DBInstance"
SECRET, ATTACHMENT = "AWS::SecretsManager::Secret", "AWS::SecretsManager::SecretTargetAttachment"
# RDS's master: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.MasterAccounts.html
MASTER = "LOGIN CREATEROLE CREATEDB"
TOKENS = "rds_iam"


def makers(secrets: Secrets, clusters: ClusterMaker) -> dict[str, Maker]:
    """By the type's name."""
    return {
        CLUSTER: clusters,
        INSTANCE: Recorder(),
        SECRET: SecretMaker(secrets),
        ATTACHMENT: AttachmentMaker(secrets, clusters),
    }


class Secrets:
    """moto's, by what is asked of them here."""

    def __init__(self, backend: SecretsManagerBackend) -> None:
        self._backend = backend

    def put(self, name: str, value: str) -> str:
        """A new one; its ARN."""
        made = self._backend.create_secret(
            name=name,
            secret_string=value,
            secret_binary=None,
            description=None,
            tags=[],
            kms_key_id=None,
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return str(json.loads(made)["ARN"])

    def add(self, arn: str, more: dict[str, Any]) -> None:
        """To the object that it holds."""
        value = json.loads(self._backend.get_secret_value(arn, "", "")["SecretString"])
        self._backend.put_secret_value(arn, json.dumps(value | more), "", str(uuid.uuid4()), ["AWSCURRENT"])

    def delete(self, arn: str) -> None:
        """At once, as CloudFormation does."""
        self._backend.delete_secret(arn, None, force_delete_without_recovery=True)


class Cluster(Recorded):
    """One that runs. ``server`` answers at its endpoints."""

    def __init__(self, logical_id: str, server: Postgres, database: str, master_secret: str) -> None:
        super().__init__(logical_id)
        self.server = server
        self.database = database
        self.master_secret = master_secret
        self.protected = False

    def get_cfn_attribute(self, name: str) -> str:
        """As Aurora's cluster has them. Raises Failed for one that it does not have."""
        known = {
            "Endpoint.Address": self.server.host,
            "ReadEndpoint.Address": self.server.host,
            "Endpoint.Port": str(self.server.port),
            "DBClusterResourceId": f"cluster-{self.physical_resource_id.rpartition('-')[2].upper()}",
            "MasterUserSecret.SecretArn": self.master_secret,
        }
        if name not in known:
            raise Failed(f"Requested attribute {name} does not exist in schema for {CLUSTER}")
        return known[name]


class ClusterMaker:
    """Starts and ends servers."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self.running: dict[str, Cluster] = {}

    def create(self, definition: Definition) -> Cluster:
        """With the database that is named, which is the master's, and the master's secret."""
        said, password = definition.properties, new_password()
        if not said.get("ManageMasterUserPassword"):
            raise Failed(f"{definition.logical_id}: a rehearsal has clusters with ManageMasterUserPassword alone")
        server = Postgres()
        server.start()
        master, database = said["MasterUsername"], said.get("DatabaseName", "postgres")
        server.create_role(master, password, options=MASTER)
        server.execute(f"CREATE ROLE {TOKENS} ADMIN {master}")
        if database != "postgres":
            server.create_database(database, owner=master)
        login = json.dumps({"username": master, "password": password})
        made = Cluster(definition.logical_id, server, database, self._secrets.put(f"rds!{uuid.uuid4()}", login))
        self.running[made.physical_resource_id] = made
        return self.update(made, definition, definition)

    def update(self, made: Cluster, definition: Definition, _before: Definition) -> Cluster:
        """Its protection."""
        made.protected = str(definition.properties.get("DeletionProtection")).lower() == "true"
        return made

    def delete(self, made: Cluster, _definition: Definition) -> None:
        """With its server. Raises Failed for a protected one."""
        if made.protected:
            raise Failed("Cannot delete protected Cluster, please disable deletion protection and try again.")
        self.running.pop(made.physical_resource_id).server.stop()
        self._secrets.delete(made.master_secret)

    def close(self) -> None:
        """End what still runs."""
        while self.running:
            self.running.popitem()[1].server.stop()


class Secret(Recorded):
    """A secret; what refers to it means its ARN."""

    def __init__(self, logical_id: str, arn: str) -> None:
        super().__init__(logical_id)
        self.physical_resource_id = arn


class SecretMaker:
    """Secrets that hold a text, or one that is generated."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def create(self, definition: Definition) -> Secret:
        """With a new password, where the template asks for one."""
        said = definition.properties
        name = said.get("Name", f"{definition.logical_id}-{uuid.uuid4().hex[:12]}")
        generated = said.get("GenerateSecretString")
        value = said.get("SecretString", "")
        if generated is not None:
            object_ = json.loads(generated.get("SecretStringTemplate", "{}"))
            value = json.dumps(object_ | {generated.get("GenerateStringKey", "password"): new_password()})
        return Secret(definition.logical_id, self._secrets.put(name, value))

    def update(self, made: Secret, _definition: Definition, _before: Definition) -> Secret:
        """The same: a password that was generated stays."""
        return made

    def delete(self, made: Secret, _definition: Definition) -> None:
        """At once."""
        self._secrets.delete(made.physical_resource_id)


class AttachmentMaker:
    """Writes where a cluster is into a secret, as a rotation and `db` look for it there."""

    def __init__(self, secrets: Secrets, clusters: ClusterMaker) -> None:
        self._secrets = secrets
        self._clusters = clusters

    def create(self, definition: Definition) -> Secret:
        """Of a cluster that this account has. Raises Failed for any other target."""
        arn, target = (definition.properties[name] for name in ("SecretId", "TargetId"))
        if target not in self._clusters.running:
            raise Failed(f"{definition.logical_id}: {target} is no cluster of this account")
        server = self._clusters.running[target].server
        self._secrets.add(arn, {"host": server.host, "port": server.port, "dbClusterIdentifier": target})
        return Secret(definition.logical_id, arn)

    def update(self, made: Secret, _definition: Definition, _before: Definition) -> Secret:
        """The same."""
        return made

    def delete(self, _made: Secret, _definition: Definition) -> None:
        """The secret keeps what it holds."""
