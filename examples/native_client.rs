//! A first lesson: a native client that publishes and subscribes over raw QUIC.
//!
//! Start a daemon in one terminal, this example in another, and watch in a third:
//!
//! ```text
//! cargo run --release -- serve
//! cargo run --release --example native_client
//! cargo run --release -- sub 'lesson/**'
//! ```

use std::error::Error;
use weir::wire::Which;
use weir::{Client, Event, Start, SubscribeOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // 1. Connect. The client finds and checks the certificate of a daemon on the same machine. For
    //    another machine, see `Client::builder(…).trust(…)`.
    let server = std::env::args().nth(1).unwrap_or_else(|| "localhost:4433".into());
    let client = Client::connect(server).await?;
    println!("connected over {}, round trip {:?}", client.transport(), client.ping().await?);

    // 2. Subscribe. In a filter `*` matches one segment, and a final `**` all remaining ones.
    //    `Start::New` starts with the next message, `Start::Last(10)` with the last ten in the
    //    cache. A subscription is the only way to read history.
    let options = SubscribeOptions::from(Start::New);
    let mut lesson = client.subscribe("lesson/**", &options).await?;

    // 3. Publish. The daemon does not interpret the bytes of a payload. The receipt has the sequence
    //    of the message in its topic, and how often this payload has been published there.
    for payload in ["do", "re", "mi", "do"] {
        let receipt = client.publish("lesson/notes", payload).await?;
        println!("published {payload}: message {}, ×{}", receipt.sequence, receipt.count);
    }

    // 4. Publish many at once. `send` does not wait for the receipt, and keeps the order.
    let mut pending = Vec::new();
    for n in 0..100_u32 {
        pending.push(client.send("lesson/numbers", n.to_be_bytes().to_vec()).await?);
    }
    for receipt in pending {
        receipt.await?;
    }

    // 5. Read. Every message arrives once, in order. A message that can no longer arrive is reported
    //    as a gap. Reading slowly is fine: the daemon keeps a cursor, not a queue.
    let mut messages = 0;
    while messages < 104 {
        match lesson.next().await {
            Some(Ok(Event::Message(message))) => {
                messages += 1;
                if &*message.topic == "lesson/notes" {
                    let text = String::from_utf8_lossy(&message.payload);
                    println!("got {text}: message {}, ×{}", message.sequence, message.count);
                }
            }
            Some(Ok(Event::Gap(gap))) => println!("missed {} to {}", gap.first, gap.last),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }

    // 6. Resume later, in this or another session, without missing or repeating anything:
    //    `SubscribeOptions::from(lesson.resume())`.
    let resume = SubscribeOptions::from(lesson.resume());
    drop(lesson);
    client.publish("lesson/notes", "fa").await?;
    let mut again = client.subscribe("lesson/**", &resume).await?;
    if let Some(Event::Message(message)) = again.next().await.transpose()? {
        println!("after resuming: {}", String::from_utf8_lossy(&message.payload));
    }

    // 7. Ask the cache.
    let newest = client.get("lesson/notes", Which::Latest).await?;
    println!("the newest note is message {}", newest.sequence);
    for entry in client.top("lesson/notes", 1).await? {
        println!("the most published note was published {} times", entry.count);
    }

    // 8. Close: this waits for the receipts that are still to come.
    drop(again);
    client.close().await;
    Ok(())
}
