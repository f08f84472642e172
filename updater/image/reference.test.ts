// The spellings of image references, there and back.

import { describe, expect, test } from "vitest";
import { UsageError } from "../../shared/error.ts";
import {
  displayReference,
  formatOriginReference,
  formatTransportReference,
  type ImageReference,
  makeImageReference,
  parseOriginReference,
  parseTransportReference,
} from "./reference.ts";

const registry = { transport: "registry", image: "quay.io/x/y:tag" } as const;
const oci = { transport: "oci", image: "/var/mnt/usb/os.oci:v2" } as const;

test.each<[string, ImageReference]>([
  ["docker://quay.io/x/y:tag", registry],
  ["registry:quay.io/x/y:tag", registry],
  ["oci:/var/mnt/usb/os.oci:v2", oci],
  ["containers-storage:localhost/x", { transport: "containers-storage", image: "localhost/x" }],
])("transport form %s", (text, reference) => {
  expect(parseTransportReference(text)).toEqual(reference);
  expect(parseTransportReference(formatTransportReference(reference))).toEqual(reference);
});

test.each<[string, ImageReference, string]>([
  ["ostree-unverified-image:docker://quay.io/x/y:tag", registry, "quay.io/x/y:tag"],
  [
    "ostree-unverified-image:oci:/var/mnt/usb/os.oci:v2",
    oci,
    "ostree-unverified-image:oci:/var/mnt/usb/os.oci:v2",
  ],
  [
    "ostree-image-signed:docker://quay.io/x/y:tag",
    { ...registry, signature: "containerPolicy" },
    "ostree-image-signed:docker://quay.io/x/y:tag",
  ],
  [
    "ostree-remote-registry:fedora:quay.io/x/y:tag",
    { ...registry, signature: { ostreeRemote: "fedora" } },
    "ostree-remote-registry:fedora:quay.io/x/y:tag",
  ],
  [
    "ostree-remote-image:fedora:oci:/var/mnt/usb/os.oci:v2",
    { ...oci, signature: { ostreeRemote: "fedora" } },
    "ostree-remote-image:fedora:oci:/var/mnt/usb/os.oci:v2",
  ],
])("origin form %s", (text, reference, shown) => {
  expect(parseOriginReference(text)).toEqual(reference);
  expect(formatOriginReference(reference)).toBe(text);
  expect(displayReference(reference)).toBe(shown);
});

test("short registry form is read, not written", () => {
  expect(parseOriginReference("ostree-unverified-registry:quay.io/x/y:tag")).toEqual(registry);
  expect(displayReference({ ...registry, signature: "insecure" })).toBe(
    "ostree-unverified-registry:quay.io/x/y:tag",
  );
});

describe("bad references are refused", () => {
  test.each<[string, () => unknown, RegExp]>([
    [
      "unknown transport",
      () => makeImageReference("ftp", "x"),
      /Unknown transport "ftp"; known are registry, oci/,
    ],
    ["no name", () => makeImageReference("oci", ""), /not an image name/],
    ["line break", () => makeImageReference("oci", "/a\n[boot]"), /not an image name/],
    ["no transport", () => parseTransportReference("fedora"), /transport:image/],
    ["docker without slashes", () => parseTransportReference("docker:fedora"), /docker:\/\//],
    ["unknown scheme", () => parseOriginReference("ostree-magic:oci:/x"), /origin file/],
    ["no scheme", () => parseOriginReference("x"), /origin file/],
    [
      "remote without image",
      () => parseOriginReference("ostree-remote-registry:fedora"),
      /origin file/,
    ],
  ])("%s", (_name, parse, message) => {
    expect(parse).toThrow(UsageError);
    expect(parse).toThrow(message);
  });
});
