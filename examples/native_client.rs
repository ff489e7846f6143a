//! A first lesson: a native peer that publishes and subscribes over raw QUIC.
//!
//! Start a daemon in one terminal, this in another, and watch in a third:
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
    // 1. Connect. On this machine the daemon's certificate is found and checked by itself; for
    //    another, see `Client::builder(…).trust(…)`.
    let server = std::env::args().nth(1).unwrap_or_else(|| "localhost:4433".into());
    let client = Client::connect(server).await?;
    println!("connected over {}, round trip {:?}", client.transport(), client.ping().await?);

    // 2. Subscribe. A filter is a topic in which `*` stands for one segment and a last `**` for
    //    any rest. `Start::New` begins with what comes next; `Start::Last(10)` would begin with
    //    the last ten messages of the cache: there is no other way to read history.
    let options = SubscribeOptions::from(Start::New);
    let mut lesson = client.subscribe("lesson/**", &options).await?;

    // 3. Publish. A payload is bytes, never interpreted. The receipt says which sequence the
    //    message has in its topic, and how often this payload has been published there.
    for payload in ["do", "re", "mi", "do"] {
        let receipt = client.publish("lesson/notes", payload).await?;
        println!("published {payload}: message {}, ×{}", receipt.sequence, receipt.count);
    }

    // 4. Many at once: `send` does not wait for the receipt, and keeps the order.
    let mut pending = Vec::new();
    for n in 0..100_u32 {
        pending.push(client.send("lesson/numbers", n.to_be_bytes().to_vec()).await?);
    }
    for receipt in pending {
        receipt.await?;
    }

    // 5. Read. Every message comes once, in order; what cannot come any more is told as a gap.
    //    Reading slowly is fine: the daemon keeps a cursor, not a queue.
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

    // 6. To go on later, here or in another session, without missing or repeating anything:
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

    // 8. Say goodbye: waits for receipts that are still under way.
    drop(again);
    client.close().await;
    Ok(())
}
