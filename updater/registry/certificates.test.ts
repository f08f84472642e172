// certs.d: which directory, which files, and what is said about wrong ones.

import { readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FormatError, StateError } from "../../shared/error.ts";
import { makeConfigPlace } from "../../test/support/config-place.ts";
import { readCertificates } from "./certificates.ts";

const vectors = join(import.meta.dirname, "../../test/vectors/registry");
const vector = (name: string) => readFileSync(join(vectors, name));
const CA = vector("ca.crt").toString();
const CERT = vector("client.cert").toString();
const KEY = vector("client.key").toString();
const BASE = "/etc/containers/certs.d/q.io:5000";

test("no directory", () => {
  const place = makeConfigPlace({ "/etc/containers/certs.d/other.io/ca.crt": CA });
  const { advisedDirectory, ...found } = readCertificates(place, "q.io");
  expect(found).toEqual({ authorities: [], clients: [], directory: null });
  expect(advisedDirectory).toBe(join(place.root, "etc/containers/certs.d/q.io"));
});

test("authorities and pairs; other files are nothing", () => {
  const place = makeConfigPlace({
    [`${BASE}/b.crt`]: `# comment\n${CA}${CERT}`,
    [`${BASE}/a.crt`]: CA,
    [`${BASE}/client.cert`]: CERT,
    [`${BASE}/client.key`]: KEY,
    [`${BASE}/README`]: "no certificate",
    [`${BASE}/ca.pem`]: "no certificate",
  });
  symlinkSync("/nowhere/at/all", join(place.root, BASE, "dangling.crt"));
  const { authorities, clients, directory } = readCertificates(place, "q.io:5000");
  expect(authorities).toEqual([CA, `# comment\n${CA}${CERT}`]);
  expect(clients).toEqual([
    { certificate: CERT, key: KEY, path: join(place.root, BASE, "client.cert") },
  ]);
  expect(directory).toBe(join(place.root, BASE));
});

test("the port is part of the name", () => {
  const place = makeConfigPlace({ [`${BASE}/ca.crt`]: CA });
  expect(readCertificates(place, "q.io").directory).toBe(null);
  expect(readCertificates(place, "q.io:5001").directory).toBe(null);
});

describe("of several directories the first counts alone", () => {
  const ORDER = [
    "/root/.config/containers/certs.d",
    "/etc/containers/certs.rootful.d",
    "/etc/containers/certs.d",
    "/usr/share/containers/certs.rootful.d",
    "/usr/share/containers/certs.d",
    "/etc/docker/certs.d",
  ];
  const USER_ORDER = [
    "/users/u/.config/containers/certs.d",
    "/etc/containers/certs.rootless.d/1000",
    "/etc/containers/certs.rootless.d",
    "/etc/containers/certs.d",
    "/usr/share/containers/certs.rootless.d/1000",
    "/usr/share/containers/certs.rootless.d",
    "/usr/share/containers/certs.d",
    "/etc/docker/certs.d",
  ];
  const cases = [ORDER, USER_ORDER].flatMap((order) =>
    order.map((_, i) => [order[i]!, order.slice(i)]),
  );

  test.each(cases as [string, string[]][])("%s", (first, rest) => {
    const files = Object.fromEntries(rest.map((path) => [`${path}/q.io/ca.crt`, CA]));
    const isUser = rest.length > 0 && USER_ORDER.slice(-rest.length).join() === rest.join();
    const places = [
      ...(ORDER.slice(-rest.length).join() === rest.join() ? [makeConfigPlace(files)] : []),
      ...(isUser ? [makeConfigPlace(files, { HOME: "ROOT/users/u" }, 1000)] : []),
    ];
    expect(places.length).toBeGreaterThan(0);
    for (const place of places) {
      expect(readCertificates(place, "q.io").directory).toBe(join(place.root, first, "q.io"));
    }
  });
});

describe("refused with the file and what to do", () => {
  test.each([
    [
      "a certificate without key",
      { "c.cert": CERT },
      StateError,
      /c\.cert" has no key; add "c\.key"/,
    ],
    [
      "a key without certificate",
      { "c.key": KEY },
      StateError,
      /c\.key" has no client.*add "c\.cert"/,
    ],
    [
      "an authority called .cert",
      { "ca.cert": CA },
      StateError,
      /certificates of an authority end in "\.crt"/,
    ],
    [
      "DER",
      { "ca.crt": vector("ca.der") },
      FormatError,
      /ca\.crt": it has no PEM certificate; convert it with "openssl x509/,
    ],
    [
      "an empty file",
      { "ca.crt": "" },
      FormatError,
      /ca\.crt": it has no PEM certificate; convert/,
    ],
    [
      "damaged bytes",
      { "ca.crt": CA.replace(/\nMII.{8}/, "\nMIIAAAAAAAA") },
      FormatError,
      /ca\.crt": certificate 1 is damaged/,
    ],
    [
      "a key for another certificate",
      { "c.cert": CERT, "c.key": vector("ca.key") },
      FormatError,
      /c\.key": the key is not that of ".*c\.cert"/,
    ],
    [
      "a key with a password",
      { "c.cert": CERT, "c.key": vector("client-encrypted.key") },
      FormatError,
      /c\.key": the key has a password; write it without one/,
    ],
    ["no key", { "c.cert": CERT, "c.key": CERT }, FormatError, /c\.key": it has no private key/],
  ])("%s", (_name, files, kind, message) => {
    const place = makeConfigPlace(
      Object.fromEntries(Object.entries(files).map(([name, text]) => [`${BASE}/${name}`, text])),
    );
    const error = (() => {
      try {
        return readCertificates(place, "q.io:5000");
      } catch (error) {
        return error;
      }
    })();
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toMatch(message);
  });
});
