// Observed deployments and host states for tests of what is made of them.

import type { Deployment, HostState } from "../../updater/deploy/host-state.ts";

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
    policy: null,
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
    problems: [],
    ...overrides,
  };
}
