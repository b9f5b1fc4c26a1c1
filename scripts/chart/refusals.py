"""Values that must be refused, by the schema or by the templates."""

import helm
from helm import Case
from places import CHART

# Settings, and a word that the refusal must contain.
BAD = [
    (["fanout.replcas=2"], "replcas"),
    (["unknown=1"], "unknown"),
    (["redis.topology=sentinels"], "topology"),
    (["redis.sentinel.nodes=4"], "nodes"),
    (["redis.maxmemory=2 GB"], "maxmemory"),
    (["redis.maxmemoryPolicy=volatile-lru"], "maxmemoryPolicy"),
    (["redis.cluster.shards=2"], "shards"),
    (["tls.mode=letsencrypt"], "mode"),
    (["auth.mode=none"], "mode"),
    (["telemetry.sampleRatio=2"], "sampleRatio"),
    (["fanout.config.sse.hartbeat=15s"], "hartbeat"),
    (["fanout.config.sees.heartbeat=15s"], "sees"),
    (["replay.config.history.page=many"], "page"),
    (["fanout.image.digest=sha256:123"], "digest"),
    (["fanout.replicas=two"], "replicas"),
    (["fanout.extraEnv[0].value=x"], "name"),
    (["fanout.autoscaling.mode=vpa"], "mode"),
    (["sidecar.journalSize=big"], "journalSize"),
    (["image.pullPolicy=Sometimes"], "pullPolicy"),
    (["redis.auth.runs={a b}"], "runs"),
    (["redis.topology=external"], "redis.external.url"),
    (["redis.topology=external", "redis.external.url=redis://r:6379"], "redis.auth.existingSecret"),
    (["tls.mode=existingSecrets"], "tls.existingSecrets"),
    (["auth.key=jwks"], "auth.existingSecret"),
    (["redis.auth.runs={a}", "redis.auth.manageRuns=true"], "choose one"),
    (["gateway.enabled=true"], "gateway.parentRefs"),
    (["ingress.enabled=true"], "ingress.hosts"),
    (["ingress.enabled=true", "ingress.hosts={a.example}", "fanout.tls.enabled=true"], "gateway"),
    (["ingress.enabled=true", "ingress.hosts={a.example}", "replay.tls.enabled=true"], "gateway"),
    (["replay.archive.url=file:///var/lib/runcast/archive"], "replay.persistence.enabled"),
    (["replay.persistence.enabled=true"], "replay.replicas"),
    (["tls.enabled=false", "controlPlane.tls.clientCaSecret=x"], "tls.enabled"),
]


def findings() -> tuple[int, list[str]]:
    wrong = []
    for sets, word in BAD:
        for program in helm.MAJORS:
            try:
                helm.template(program, Case("bad", (), tuple(sets)), CHART)
                wrong.append(f"{sets} is not refused by {program}")
            except helm.Refused as error:
                if word not in str(error):
                    wrong.append(f"{sets} is refused by {program} without `{word}`: {error}")
    return len(BAD), wrong
