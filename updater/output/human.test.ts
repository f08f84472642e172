// Texts written down from bootc.md 2.3.

import { describe, expect, test } from "vitest";
import {
  makeDeployment,
  makeFailure,
  makeHostState,
  makeMachineTrust,
  makeTrust,
} from "../../test/support/hosts.ts";
import type { BootEntry, Host, ImageStatus } from "../spec/host.ts";
import { makeEmptyHost, makeHost } from "../spec/make-host.ts";
import { formatHostHuman } from "./human.ts";

const DIGEST_A = `sha256:${"16".repeat(32)}`;
const DIGEST_B = `sha256:${"73".repeat(32)}`;

function image(overrides: Partial<ImageStatus> = {}): ImageStatus {
  return {
    image: { image: "quay.io/example/someimage:latest", transport: "registry" },
    version: "nightly",
    timestamp: "2023-10-14T19:22:15Z",
    imageDigest: DIGEST_A,
    architecture: "arm64",
    ...overrides,
  };
}

function entry(overrides: Partial<BootEntry> = {}): BootEntry {
  return {
    image: image(),
    cachedUpdate: null,
    incompatible: false,
    pinned: false,
    softRebootCapable: false,
    downloadOnly: false,
    store: null,
    ostree: null,
    composefs: null,
    ...overrides,
  };
}

function show(status: Partial<Host["status"]>, verbose = false): string {
  const empty = makeEmptyHost();
  return formatHostHuman({ ...empty, status: { ...empty.status, ...status } }, { verbose });
}

const ostree = { stateroot: "default", checksum: "f9fa3a", deploySerial: 2 };
const composefs = {
  verity: "ab12",
  bootType: "Bls",
  bootloader: "systemd",
  bootDigest: null,
  missingVerityAllowed: false,
} as const;

describe("formatHostHuman", () => {
  test("staged and booted", () => {
    const booted = entry({ image: image({ imageDigest: DIGEST_B, timestamp: null }) });
    expect(show({ staged: entry(), booted })).toBe(
      `  Staged image: quay.io/example/someimage:latest
        Digest: ${DIGEST_A} (arm64)
       Version: nightly (2023-10-14T19:22:15Z)

● Booted image: quay.io/example/someimage:latest
        Digest: ${DIGEST_B} (arm64)
       Version: nightly
`,
    );
  });

  test("all slots; labels stand under each one's own first line", () => {
    const plain = entry({ image: image({ version: null, timestamp: null }) });
    const status = { staged: plain, booted: plain, rollback: plain };
    expect(show({ ...status, otherDeployments: [plain, plain] })).toBe(
      `  Staged image: quay.io/example/someimage:latest
        Digest: ${DIGEST_A} (arm64)

● Booted image: quay.io/example/someimage:latest
        Digest: ${DIGEST_A} (arm64)

  Rollback image: quay.io/example/someimage:latest
          Digest: ${DIGEST_A} (arm64)

   Other image: quay.io/example/someimage:latest
        Digest: ${DIGEST_A} (arm64)

   Other image: quay.io/example/someimage:latest
        Digest: ${DIGEST_A} (arm64)
`,
    );
  });

  test("every row, other transports, fractions of seconds dropped", () => {
    const booted = entry({
      image: image({
        image: { image: "/var/mnt/os", transport: "oci", signature: "containerPolicy" },
        timestamp: "2023-10-14T19:22:15.123456Z",
      }),
      cachedUpdate: image({ imageDigest: DIGEST_B, version: "2" }),
      pinned: true,
      composefs,
      ostree,
    });
    const usrOverlay = { accessMode: "readWrite", persistence: "transient" } as const;
    const shown = `● Booted image: oci:/var/mnt/os
        Digest: ${DIGEST_A} (arm64)
        Verity: ab12
       Version: nightly (2023-10-14T19:22:15Z)
        Pinned: yes
 UpdateVersion: 2 (2023-10-14T19:22:15Z)
  UpdateDigest: ${DIGEST_B}
  /usr overlay: transient, read/write
`;
    expect(show({ booted, usrOverlay })).toBe(shown);
    expect(show({ booted, usrOverlay }, true)).toBe(`${shown}     StateRoot: default
 Deploy serial: 2
        Staged: no
        Commit: f9fa3a
     Signature: container-policy
   Soft-reboot: no
      FsVerity: Enforced
`);
  });

  test("time without version, update without version, an equal update is none", () => {
    const booted = entry({
      image: image({ version: null }),
      cachedUpdate: image({ imageDigest: DIGEST_B, version: null }),
    });
    expect(show({ booted })).toBe(
      `● Booted image: quay.io/example/someimage:latest
        Digest: ${DIGEST_A} (arm64)
     Timestamp: 2023-10-14T19:22:15Z
        Update: Available
  UpdateDigest: ${DIGEST_B}
`,
    );
    expect(show({ booted: entry({ cachedUpdate: image() }) })).not.toContain("Update");
  });

  test("verbose: a staged deployment and the kinds of signatures", () => {
    const signature = { ostreeRemote: "fedora" };
    const staged = entry({
      image: image({ image: { image: "x", transport: "registry", signature } }),
      softRebootCapable: true,
      downloadOnly: true,
      composefs: { ...composefs, missingVerityAllowed: true },
    });
    const insecure = { image: "x", transport: "registry", signature: "insecure" } as const;
    const booted = entry({ image: image({ image: insecure }) });
    const text = show({ staged, booted }, true);
    expect(text).toContain(`       Version: nightly (2023-10-14T19:22:15Z)
     Signature: ostree-remote:fedora
   Soft-reboot: yes
      FsVerity: Not Enforced
 Download-only: yes

●`);
    expect(text).toContain("     Signature: insecure\n   Soft-reboot: no\n");
    expect(show({ staged: entry(), booted }, true)).toContain(" Download-only: no\n");
  });

  test("deployments without a container image", () => {
    const plain = entry({ image: null, ostree });
    const text = show({ staged: plain, booted: plain, rollback: plain, otherDeployments: [plain] });
    expect(text).toBe(
      `  Staged ostree
         Commit: f9fa3a

● Booted ostree
           Commit: f9fa3a

  Rollback ostree
           Commit: f9fa3a

 Other ostree
       Commit: f9fa3a
`,
    );
    expect(show({ booted: entry({ image: null, composefs, pinned: true }) })).toBe(
      "● Booted composefs\n              Commit: ab12\n              Pinned: yes\n",
    );
    expect(show({ staged: entry({ image: null }), booted: plain })).toMatch(
      /^Current staged state is unknown\n\n●/,
    );
  });

  test("not booted from an image", () => {
    expect(show({ staged: entry() })).toBe("System is not deployed via bootc.\n");
  });

  test("problems come last, one a line", () => {
    const problems = ["Entry a is broken", "Entry b is broken"];
    expect(show({ booted: entry(), problems })).toMatch(
      /15Z\)\n\nProblem: Entry a is broken\nProblem: Entry b is broken\n$/,
    );
    expect(show({ problems })).toBe(
      "System is not deployed via bootc.\n\nProblem: Entry a is broken\nProblem: Entry b is broken\n",
    );
  });

  test("what did not start comes before the problems, with the reason", () => {
    const failures = [
      makeFailure(),
      makeFailure({ manifestDigest: null, image: null, attempts: 1, detail: null, retrying: true }),
    ];
    const host = makeHost(makeHostState({ failures, problems: ["Entry a is broken"] }));
    const text = formatHostHuman(host, { verbose: false });
    expect(text.slice(text.indexOf("  Failed image"))).toBe(
      `  Failed image: quay.io/example/os:latest
        Digest: sha256:${"18".repeat(32)}
        Verity: ${"fe".repeat(64)}
        Failed: 2026-11-22T15:00:00Z, tried 3 times
        Reason: unit: web.service failed

  Failed image: unknown
        Verity: ${"fe".repeat(64)}
        Failed: 2026-11-22T15:00:00Z, tried once
        Reason: unit
      Retrying: yes

Problem: Entry a is broken
`,
    );
  });

  test("an image cannot write lines of its own", () => {
    const booted = entry({ image: image({ version: "1\nProblem: no" }) });
    expect(show({ booted })).toContain("Version: 1\\u000aProblem: no (");
  });
  test("an image cannot write escape sequences to the terminal", () => {
    const booted = entry({ image: image({ version: "1\u001b]0;x\u0007\u009b2J" }) });
    expect(show({ booted })).toContain(": 1\\u001b]0;x\\u0007\\u009b2J (");
  });

  test("an observed machine", () => {
    const rollback = makeDeployment({ id: "ef".repeat(64), version: null, timestamp: null });
    expect(formatHostHuman(makeHost(makeHostState({ rollback })), { verbose: false })).toBe(
      `● Booted image: quay.io/example/os:latest
        Digest: sha256:${"16".repeat(32)} (amd64)
        Verity: ${"ab".repeat(64)}
       Version: 13.1 (2025-10-14T19:22:15Z)

  Rollback image: quay.io/example/os:latest
          Digest: sha256:${"16".repeat(32)} (amd64)
          Verity: ${"ef".repeat(64)}
`,
    );
  });
});

describe("trust", () => {
  const host = (trust: Parameters<typeof makeTrust>[0], machine = makeMachineTrust()) =>
    makeHost(
      makeHostState({
        booted: makeDeployment({ trust: makeTrust(trust) }),
        rollback: makeDeployment({ trust: makeTrust({ ...trust, expires: null }) }),
        trust: machine,
      }),
    );
  const rows = (text: string, label: string) =>
    text
      .split("\n")
      .filter((line) => line.trim().startsWith(`${label}:`))
      .map((line) => line.trim().slice(label.length + 2));

  test("one line for each deployment, one more for the running one", () => {
    const text = formatHostHuman(host({}), { verbose: false });
    const signed = "signed by vendor.pub (0123456789abcdef), version 42";
    expect(rows(text, "Trust")).toEqual([
      `${signed}, expires 2027-01-01T00:00:00Z, fs-verity enforced, Secure Boot off`,
      `${signed}, fs-verity enforced`,
    ]);
    expect(rows(text, "Stronger")).toEqual(["sealed: Do this; Do that"]);
    expect(rows(text, "Version floor")).toEqual([]);
    expect(text).toContain("\n         Trust: signed");
  });

  const nothing = { key: null, version: null, expires: null } as const;
  const strongest = makeMachineTrust({ secureBoot: "enabled", next: null });
  test.each([
    [
      { ...nothing, mode: "unlocked", verity: "none" },
      makeMachineTrust(),
      "unlocked, fs-verity missing, Secure Boot off",
    ],
    [
      { ...nothing, mode: "sealed", sealed: true },
      strongest,
      "sealed, fs-verity enforced, Secure Boot on",
    ],
    [
      { ...nothing, mode: "unlocked", sealed: true, verity: "optional" },
      makeMachineTrust({ secureBoot: "setup" }),
      "unlocked (the image is sealed, but Secure Boot is in setup mode), fs-verity not enforced, Secure Boot in setup mode",
    ],
    [
      { ...nothing, mode: "signed", refusal: "x" },
      strongest,
      "signed, would be refused, fs-verity enforced, Secure Boot on",
    ],
  ] as const)("%j", (trust, machine, expected) => {
    const text = formatHostHuman(host(trust, machine), { verbose: false });
    expect(rows(text, "Trust")[0]).toBe(expected);
    expect(rows(text, "Stronger")).toHaveLength(machine.next === null ? 0 : 1);
  });

  test("ostree's key has a name only", () => {
    const text = formatHostHuman(
      host({ mode: "ostree-signed", key: { name: "/etc/ostree/k", fingerprint: null } }),
      { verbose: false },
    );
    expect(rows(text, "Trust")[0]).toMatch(/^ostree-signed by \/etc\/ostree\/k, /);
  });

  test("the floor, when asked for more", () => {
    const none = makeMachineTrust({ floor: { version: null, source: "none" }, tpm: false });
    const show = (machine: typeof none) => formatHostHuman(host({}, machine), { verbose: true });
    expect(rows(show(makeMachineTrust()), "Version floor")).toEqual(["41 (TPM)"]);
    expect(rows(show(none), "Version floor")).toEqual(["none"]);
    expect(rows(show(none), "TPM")).toEqual(["no"]);
  });
});
