# The path of a newcomer, timed, in a Debian root that was made for it: newcomer.sh PACKAGE.deb
#
# 1. A Debian with systemd and curl, and nothing else. 2. The package is installed and started, as the
# README says under "Install". 3. The daemon has a certificate of its own and asks for tokens, by the
# commands of "Close it", which tests/readme.py compares with the README. 4. A browser opens the page with
# the token, and sees what curl has published.
#
# The package has to be of a release: a binary for debugging reads its page from the source tree. Needs root,
# and what tests/package.sh and tests/browser/run.sh install. For figures: the tests run each
# part by itself.
set -euo pipefail
deb=$(realpath "$1")
cd "$(dirname "$0")/.."
tests=$PWD
. "$tests/systemd/group.sh"
if [ -z "${WEIR_IN_GROUP-}" ]; then
    temporary=$(mktemp -d /tmp/weir-newcomer.XXXXXX)
    trap 'rm -rf --one-file-system "$temporary"' EXIT
    WEIR_IN_GROUP=$temporary in_group bash "$tests/package/newcomer.sh" "$deb"
    exit
fi
temporary=$WEIR_IN_GROUP
root=$temporary/root
began=$(date +%s.%N)
lap() { echo "   $(echo "$(date +%s.%N) - $began" | bc) s: $*"; began=$(date +%s.%N); }

suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
mmdebstrap --quiet --variant=minbase --include=systemd,init-system-helpers,curl "$suite" "$root" \
    >"$temporary/log" 2>&1 || { tail "$temporary/log" >&2; exit 1; }
lap "a Debian root"
mkdir -p "$root/opt" "$root/srv"
cp "$deb" "$root/opt/weir.deb"
. "$tests/package/booted.sh"
for _ in $(seq 100); do inside systemctl is-active basic.target >/dev/null 2>&1 && break || sleep 0.1; done
lap "it has booted"

inside apt-get install -y -qq /opt/weir.deb >"$temporary/log" 2>&1 || { cat "$temporary/log" >&2; exit 1; }
lap "apt install"
inside systemctl enable --now weir 2>/dev/null
inside weir pub demo/a hello
lap "systemctl enable --now weir, and the first publication"

inside systemctl stop weir
inside sh -ec 'cd /srv
    weir cert new --names localhost --out cert >/dev/null
    weir token keygen --out key.jwk --public keys.json
    weir token new --key key.jwk --sub ada --subscribe "demo/**" --publish "demo/**" --expires 12h --out token'
inside sh -ec 'cd /srv; export WEIR_ACCESS__KEYS=keys.json WEIR_TLS__CERTIFICATE=cert/certificate.pem
    WEIR_TLS__KEY=cert/key.pem exec weir serve' >"$temporary/serve" 2>&1 &
for _ in $(seq 100); do grep -q '^in a browser' "$temporary/serve" && break || sleep 0.1; done
inside sh -ec 'cd /srv
    weir pub demo/team hello --token-file token
    weir sub demo/team --from all --count 1 --token-file token
    curl -s -d "seen by a browser" -H "Authorization: Bearer $(cat token)" http://localhost:8080/v1/topics/demo/a
    echo
    curl -s -d hello http://localhost:8080/v1/topics/demo/a | grep -o "\"name\":\"unauthorized\""'
lap "a certificate, a key, a token, and a closed daemon"

key=$(openssl x509 -in "$root/srv/cert/certificate.pem" -pubkey -noout | openssl pkey -pubin -outform der |
    openssl dgst -sha256 -binary | base64)
cd browser
nsenter -t "$pid" -n env HOME="$temporary" node --input-type=module -e "
import { launch } from './harness/browsers.mjs';
import { lines, shown, state } from './harness/page.mjs';
const browser = await launch('chromium', { trust: { keys: ['$key'] } });
const tab = await browser.tab('https://localhost:4433/?room=a#token=$(cat "$root/srv/token")');
await state(tab, 'open');
await shown(tab, 'seen by a browser');
console.log(await tab.evaluate(() => document.body.dataset.transport), JSON.stringify(await lines(tab)));
await browser.close();
"
lap "a browser sees it"
