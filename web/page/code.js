// Code to copy, with the address of this daemon.

/**
 * Fills the three tabs. `native` is `host:port` of the UDP port; `pinned` is the hash of the
 * certificate, if clients must pin it.
 */
export function fill(topic, { origin = location.origin, native, pinned = null }) {
  put("javascript", `import { connect } from "${origin}/weir.js";

const client = await connect("${origin}");
const chat = client.subscribe("${topic}", { from: "last:50" });

await client.publish("${topic}", "hello");

for await (const event of chat) {
  if (event.kind === "gap") console.log("missed", event.first, "to", event.last);
  else console.log(\`#\${event.sequence} ×\${event.count} \${event.text()}\`);
}
`);
  const connect = pinned
    ? `// This daemon has a certificate of its own, so its hash is shown:
    let trust = weir::Trust::Pinned("${pinned}".parse()?);
    let client = weir::Client::builder("${native}").trust(trust).connect().await?;`
    : `let client = weir::Client::connect("${native}").await?;`;
  put("rust", `#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ${connect}
    let from = weir::SubscribeOptions::from(weir::Start::Last(50));
    let mut chat = client.subscribe("${topic}", &from).await?;
    client.publish("${topic}", "hello").await?;
    while let Some(event) = chat.next().await {
        println!("{:?}", event?);
    }
    Ok(())
}
`);
  const url = quote(`${origin}/v1/topics/${path(topic)}`);
  const events = quote(`${origin}/v1/events/${path(topic.split("/").slice(0, -1).join("/"))}/*`);
  const curl = origin.startsWith("https:") && pinned ? "curl --insecure" : "curl";
  put("shell", `# publish; the answer is a receipt
${curl} -d 'hello' ${url}

# follow: server-sent events, one a message
${curl} -N ${events}
`);
}

function put(language, text) {
  document.querySelector(`#code-${language} code`).textContent = text.trimEnd();
}

function path(topic) {
  return topic.split("/").map(encodeURIComponent).join("/");
}

function quote(word) {
  return /[^\w:/.%@-]/.test(word) ? `'${word.replaceAll("'", "'\\''")}'` : word;
}

/** Makes the tabs work with the mouse and the arrow keys, and the copy button. */
export function wire() {
  const tabs = [...document.querySelectorAll('.code [role="tab"]')];
  const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
  let chosen = tabs[0];

  const choose = (tab, focus) => {
    chosen = tab;
    for (const each of tabs) {
      const here = each === tab;
      each.setAttribute("aria-selected", String(here));
      each.tabIndex = here ? 0 : -1;
      panel(each).hidden = !here;
    }
    if (focus) tab.focus();
  };

  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab, false));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(tabs.at(to % tabs.length), true);
    });
  });

  const button = document.getElementById("copy");
  const told = document.getElementById("copied");
  let timer = 0;
  button.addEventListener("click", async () => {
    const code = panel(chosen).querySelector("code");
    let words = "Copied";
    try {
      await navigator.clipboard.writeText(`${code.textContent}\n`);
    } catch {
      // The browser forbids it here. With the code selected, the reader needs one key.
      getSelection().selectAllChildren(code);
      words = "Selected: copy it with the keyboard";
    }
    button.textContent = words;
    told.textContent = words;
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.textContent = "Copy";
      told.textContent = "";
    }, 2500);
  });
}
