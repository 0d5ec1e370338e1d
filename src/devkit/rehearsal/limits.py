"""What a rehearsal cannot see: only an account has it."""

from __future__ import annotations

UNSEEN = {
    "IAM": "every action is allowed: a policy that is too narrow shows at the first deploy",
    "the network": "security groups, subnets, endpoints and DNS are recorded, and every address is reached",
    "quotas": "concurrency, addresses, the size of resource policies; an account has limits of its own",
    "API Gateway": "its import of the routes, and its look at the issuer of tokens",
    "aliases": "what [versions] adds to a deploy is not rehearsed: moto has nothing that shifts calls by and by",
    "time": "resources are ready at once; an account takes minutes, and up to forty to delete functions in a VPC",
    "retries": "Lambda calls a custom resource's function up to three times where it fails without an answer",
}
