import { describe, expect, it } from "vitest";
import { chooseUri, parseDeb822, parseOneLine } from "./apt-mirror.ts";

const deb822 = `# written by an installer
Types: deb
# URIs: http://wrong.example/debian
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://other.example/packages
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/other.gpg

Types: deb deb-src
URIs: http://mirror.example/security
Suites: trixie-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: sid
Components: main
`;

const oneLine = `# deb http://comment.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] http://docker.example/debian bookworm main
deb [arch=amd64] https://mirror.example/debian bookworm main contrib # ours
deb http://mirror.example/security bookworm-security main
`;

const mainSuite = /^(bookworm|trixie|sid)$/;
const securitySuite = /^(bookworm|trixie|sid)-security$/;

describe("apt mirror", () => {
  it("finds Debian's own repositories in a .sources file", () => {
    const entries = parseDeb822(deb822);
    expect(entries).toHaveLength(3);
    expect(chooseUri(entries, mainSuite)).toBe("http://mirror.example/debian");
    expect(chooseUri(entries, securitySuite)).toBe("http://mirror.example/security");
  });

  it("finds them in a .list file", () => {
    const entries = parseOneLine(oneLine);
    expect(entries).toHaveLength(3);
    expect(chooseUri(entries, mainSuite)).toBe("https://mirror.example/debian");
    expect(chooseUri(entries, securitySuite)).toBe("http://mirror.example/security");
  });

  it("says so when there is none", () => {
    expect(chooseUri(parseOneLine("deb http://x.example/y stable other\n"), /^stable$/)).toBe(
      undefined,
    );
  });
});
