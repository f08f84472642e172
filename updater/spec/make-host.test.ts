import { describe, expect, test } from "vitest";
import { makeDeployment, makeFailure, makeHostState } from "../../test/support/hosts.ts";
import { makeEmptyHost, makeHost, selectBooted } from "./make-host.ts";

const OTHER = { transport: "oci", image: "/var/mnt/usb/os.oci" } as const;

describe("makeHost", () => {
  test("one booted deployment, every field", () => {
    expect(makeHost(makeHostState())).toEqual({
      apiVersion: "org.containers.bootc/v1",
      kind: "BootcHost",
      metadata: { name: "host" },
      spec: {
        image: { image: "quay.io/example/os:latest", transport: "registry" },
        bootOrder: "default",
      },
      status: {
        staged: null,
        booted: {
          image: {
            image: { image: "quay.io/example/os:latest", transport: "registry" },
            version: "13.1",
            timestamp: "2025-10-14T19:22:15.500Z",
            imageDigest: `sha256:${"16".repeat(32)}`,
            architecture: "amd64",
          },
          cachedUpdate: null,
          incompatible: false,
          pinned: false,
          softRebootCapable: false,
          downloadOnly: false,
          store: null,
          ostree: null,
          composefs: {
            verity: "ab".repeat(64),
            bootType: "Bls",
            bootloader: "systemd",
            bootDigest: "cd".repeat(32),
            missingVerityAllowed: false,
          },
        },
        rollback: null,
        rollbackQueued: false,
        type: "bootcHost",
        usrOverlay: null,
        readOnly: false,
      },
    });
  });

  test("the staged image is the wanted one", () => {
    const staged = makeDeployment({ image: OTHER, downloadOnly: true, softRebootCapable: true });
    const host = makeHost(makeHostState({ staged }));
    expect(host.spec.image).toEqual({ image: OTHER.image, transport: "oci" });
    expect(host.status.staged?.downloadOnly).toBe(true);
    expect(host.status.staged?.softRebootCapable).toBe(true);
  });

  test("a queued rollback is the boot order", () => {
    const rollback = makeDeployment({ id: "ef".repeat(64), bootType: "uki" });
    const host = makeHost(makeHostState({ rollback, rollbackQueued: true }));
    expect(host.spec.bootOrder).toBe("rollback");
    expect(host.status.rollbackQueued).toBe(true);
    expect(host.status.rollback?.composefs?.bootType).toBe("Uki");
  });

  test("the booted deployment is no target of a soft reboot", () => {
    const booted = makeDeployment({ softRebootCapable: true });
    expect(makeHost(makeHostState({ booted })).status.booted?.softRebootCapable).toBe(false);
  });

  test("other deployments, overlay, read-only disk", () => {
    const host = makeHost(
      makeHostState({
        others: [makeDeployment()],
        usrOverlay: { readOnly: false },
        readOnly: true,
      }),
    );
    expect(host.status.otherDeployments).toHaveLength(1);
    expect(host.status.usrOverlay).toEqual({ accessMode: "readWrite", persistence: "transient" });
    expect(host.status.readOnly).toBe(true);
    expect(
      makeHost(makeHostState({ usrOverlay: { readOnly: true } })).status.usrOverlay?.accessMode,
    ).toBe("readOnly");
  });

  test("a signature setting is part of the reference", () => {
    const image = { ...OTHER, signature: { ostreeRemote: "fedora" } };
    const host = makeHost(makeHostState({ booted: makeDeployment({ image }) }));
    expect(host.spec.image?.signature).toEqual({ ostreeRemote: "fedora" });
  });

  test("an unreadable build time is no time", () => {
    const booted = makeDeployment({ timestamp: "last week" });
    expect(makeHost(makeHostState({ booted })).status.booted?.image?.timestamp).toBeNull();
  });

  describe("the cached update", () => {
    const cachedUpdate = {
      reference: "ostree-unverified-image:docker://quay.io/example/os:latest",
      manifestDigest: `sha256:${"17".repeat(32)}`,
      version: "13.2",
      timestamp: "2026-02-03T04:05:06.10Z",
      architecture: "amd64",
      checkedAt: "2026-11-22T15:00:00Z",
    };

    test("is an image like others", () => {
      const host = makeHost(makeHostState({ booted: makeDeployment({ cachedUpdate }) }));
      expect(host.status.booted?.cachedUpdate).toEqual({
        image: { image: "quay.io/example/os:latest", transport: "registry" },
        version: "13.2",
        timestamp: "2026-02-03T04:05:06.100Z",
        imageDigest: `sha256:${"17".repeat(32)}`,
        architecture: "amd64",
      });
    });

    test("is no news to the deployment that has it", () => {
      const { manifestDigest } = cachedUpdate;
      const staged = makeDeployment({ cachedUpdate, manifestDigest });
      const host = makeHost(
        makeHostState({ staged, booted: makeDeployment({ cachedUpdate, version: null }) }),
      );
      expect(host.status.staged?.cachedUpdate).toBeNull();
      expect(host.status.booted?.cachedUpdate?.imageDigest).toBe(manifestDigest);
    });
  });

  test("what did not start", () => {
    const failures = [makeFailure(), makeFailure({ image: null, manifestDigest: null })];
    const { status } = makeHost(makeHostState({ failures }));
    expect(status.failedDeployments).toEqual([
      {
        verity: "fe".repeat(64),
        image: { image: "quay.io/example/os:latest", transport: "registry" },
        imageDigest: `sha256:${"18".repeat(32)}`,
        failedAt: "2026-11-22T15:00:00Z",
        reason: "unit",
        detail: "web.service failed",
        attempts: 3,
        retrying: false,
      },
      expect.objectContaining({ image: null, imageDigest: null }),
    ]);
    expect(makeHost(makeHostState()).status).not.toHaveProperty("failedDeployments");
  });

  test("a reference that cannot be read is no image", () => {
    const failures = [makeFailure({ image: "nonsense" })];
    const { status } = makeHost(makeHostState({ failures }));
    expect(status.failedDeployments?.[0]?.image).toBeNull();
  });

  test("pinned", () => {
    const rollback = makeDeployment({ pinned: true });
    expect(makeHost(makeHostState({ rollback })).status.rollback?.pinned).toBe(true);
  });

  test("without an image the system is not of type bootcHost", () => {
    const host = makeHost(makeHostState({ booted: makeDeployment({ image: null }) }));
    expect(host.status.type).toBeNull();
    expect(host.status.booted?.image).toBeNull();
    expect(host.status.booted?.composefs?.verity).toBe("ab".repeat(64));
    expect(host.status.problems).toBeUndefined();
  });

  test("an origin without a manifest digest is a problem, its image still the wanted one", () => {
    const booted = makeDeployment({ manifestDigest: null });
    const host = makeHost(makeHostState({ booted, problems: ["Entry x is broken"] }));
    expect(host.status.booted?.image).toBeNull();
    expect(host.spec.image?.image).toBe("quay.io/example/os:latest");
    expect(host.status.type).toBe("bootcHost");
    expect(host.status.problems).toEqual([
      "Entry x is broken",
      "Deployment abababababab of quay.io/example/os:latest has no manifest digest in its origin file",
    ]);
  });
});

test("makeEmptyHost is what an ordinary system shows", () => {
  const nothing = makeHost(makeHostState({ booted: null }));
  expect(makeEmptyHost()).toEqual(nothing);
  expect(nothing.status.type).toBeNull();
});

test("selectBooted keeps the booted and the other deployments", () => {
  const host = makeHost(
    makeHostState({
      staged: makeDeployment(),
      rollback: makeDeployment(),
      others: [makeDeployment()],
    }),
  );
  const { status } = selectBooted(host);
  expect([status.staged, status.rollback]).toEqual([null, null]);
  expect(status.booted).toEqual(host.status.booted);
  expect(status.otherDeployments).toHaveLength(1);
});
