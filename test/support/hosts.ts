// Observed deployments and host states for tests of what is made of them.

import type { BootFailure } from "../../updater/deploy/boot-failure.ts";
import type { Deployment, HostState } from "../../updater/deploy/host-state.ts";
import type { MachineTrust } from "../../updater/deploy/host-trust.ts";
import type { DeploymentTrust } from "../../updater/trust/deployment-trust.ts";

export function makeDeployment(overrides: Partial<Deployment> = {}): Deployment {
  return {
    id: "ab".repeat(64),
    image: { transport: "registry", image: "quay.io/example/os:latest" },
    manifestDigest: `sha256:${"16".repeat(32)}`,
    version: "13.1",
    timestamp: "2025-10-14T19:22:15.5Z",
    architecture: "amd64",
    bootType: "bls",
    bootloader: "systemd",
    bootDigest: "cd".repeat(32),
    missingVerityAllowed: false,
    downloadOnly: false,
    softRebootCapable: false,
    pinned: false,
    cachedUpdate: null,
    policy: null,
    trust: null,
    entryFile: "bootc_debian-13-1.conf",
    ...overrides,
  };
}

export function makeHostState(overrides: Partial<HostState> = {}): HostState {
  return {
    booted: makeDeployment(),
    staged: null,
    rollback: null,
    others: [],
    rollbackQueued: false,
    usrOverlay: null,
    readOnly: false,
    failures: [],
    trust: null,
    problems: [],
    ...overrides,
  };
}

export function makeFailure(overrides: Partial<BootFailure> = {}): BootFailure {
  return {
    id: "fe".repeat(64),
    manifestDigest: `sha256:${"18".repeat(32)}`,
    image: "ostree-unverified-image:docker://quay.io/example/os:latest",
    at: "2026-11-22T15:00:00Z",
    reason: "unit",
    detail: "web.service failed",
    attempts: 3,
    retrying: false,
    ...overrides,
  };
}

export function makeTrust(overrides: Partial<DeploymentTrust> = {}): DeploymentTrust {
  return {
    mode: "signed",
    sealed: false,
    key: { name: "vendor.pub", fingerprint: "0123456789abcdef".repeat(4) },
    version: 42,
    expires: "2027-01-01T00:00:00Z",
    verity: "enforced",
    refusal: null,
    ...overrides,
  };
}

export function makeMachineTrust(overrides: Partial<MachineTrust> = {}): MachineTrust {
  return {
    secureBoot: "disabled",
    tpm: true,
    floor: { version: 41, source: "tpm" },
    next: { mode: "sealed", needs: ["Do this", "Do that"] },
    ...overrides,
  };
}
