//! The paths below a pod that lead to its node: logs, attach, eviction. What the sandbox does not do (exec, port forwarding) is refused
//! in words, because pods here are processes of this machine that can be reached directly.

use std::io;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch as signal;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::super::objects::{Updates, is_leaving, set_condition};
use super::super::resource::PODS;
use super::super::store::text;
use super::access::{AccessError, Attached, LogOptions};
use super::failure::Failure;
use super::objects::DeleteOptions;
use super::reply::{self, Reply};
use super::request::{Request, Target};
use super::{Api, budget, decode};
use crate::time::wall_now;

/// The largest message that a client may send down an attached stream.
const MESSAGE_MAX: usize = 1 << 20;

/// The channels of an attached stream: the first byte of each message.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const ERROR: u8 = 3;
/// With version 5 of the protocol, a client closes a channel by naming it after this byte.
const CLOSE: u8 = 255;

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Failure {
        let message = error.to_string();
        match error {
            AccessError::NotReady(_) => Failure::bad_request(message),
            AccessError::NotFound(_) => Failure::new(404, "NotFound", message),
            AccessError::Failed(_) => Failure::new(500, "InternalError", message),
        }
    }
}

impl Api {
    pub(super) async fn log(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (pod, container) = self.container(target, request)?;
        let query = &request.query;
        let since = match (query.number("sinceSeconds")?, query.get("sinceTime").filter(|text| !text.is_empty())) {
            (Some(seconds), _) => Some(wall_now() - std::time::Duration::from_secs(seconds)),
            (None, Some(text)) => Some(text.parse().map_err(|_| Failure::bad_request(format!("sinceTime {text} is not a time")))?),
            (None, None) => None,
        };
        let options = LogOptions {
            follow: query.is_set("follow"),
            tail_lines: query.number("tailLines")?,
            previous: query.is_set("previous"),
            since,
            timestamps: query.is_set("timestamps"),
            limit_bytes: query.number("limitBytes")?,
        };
        waiting(&pod, &container, &options)?;
        let chunks = self.pods.logs(target.ns(), text(&pod, "name"), &container, options).await?;
        let mut stop = self.stop.clone();
        let chunks = chunks.take_until(async move { _ = stop.changed().await });
        Ok(reply::stream("text/plain", chunks))
    }

    pub(super) async fn attach(&self, target: &Target, request: &Request, upgrade: Option<OnUpgrade>) -> Result<Reply, Failure> {
        let (pod, container) = self.container(target, request)?;
        let wants_websocket = request.header("upgrade").eq_ignore_ascii_case("websocket");
        let key = request.header("sec-websocket-key");
        let Some(upgrade) = upgrade.filter(|_| wants_websocket && !key.is_empty()) else {
            return Err(Failure::bad_request("Upgrade request required: the sandbox attaches by websocket only"));
        };
        let offered = request.header("sec-websocket-protocol");
        let known = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
        let Some(protocol) = known.into_iter().find(|known| offered.split(',').any(|o| o.trim() == *known)) else {
            let message = format!("none of the subprotocols {offered} is known: the sandbox speaks {}", known.join(" and "));
            return Err(Failure::bad_request(message));
        };
        let mut attached = self.pods.attach(target.ns(), text(&pod, "name"), &container).await?;
        if !request.query.is_set("stdin") {
            attached.stdin = None;
        }
        let stop = self.stop.clone();
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
                    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
                    converse(socket, attached, stop).await;
                }
                Err(error) => tracing::debug!(%error, "a client asked to attach and then went away"),
            }
        });
        let mut reply = reply::typed(101, "text/plain", Bytes::new());
        let headers = reply.headers_mut();
        headers.clear();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let accept = derive_accept_key(key.as_bytes());
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("an accept key is base 64"));
        Ok(reply)
    }

    pub(super) fn evict(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let name = target.name.as_deref().unwrap_or_default();
        let eviction = match request.body.is_empty() {
            true => json!({}),
            false => decode::shaped("Eviction", "v1", super::body(request, "Eviction")?, decode::FieldValidation::Ignore)?.object,
        };
        let said = text(&eviction, "name");
        if !said.is_empty() && said != name {
            return Err(Failure::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut options = DeleteOptions::of_object(&eviction["deleteOptions"])?;
        options.dry_run |= request.is_dry_run()?;
        // Asking the budget and deleting are one step, so that two evictions cannot both be the last one allowed.
        let _evicting = self.evictions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pod = self.store.get(&PODS, target.ns(), name).ok_or_else(|| Failure::not_found(&PODS, name))?;
        budget::check(&self.store, &pod)?;
        if !options.dry_run && !is_leaving(&pod) {
            self.store.update(&PODS, target.ns(), name, |pod| {
                options.how.demands.check(&PODS, name, pod)?;
                let condition = json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
                    "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
                set_condition(pod, condition, Updates::No);
                Ok(())
            })?;
        }
        self.begin_delete(&PODS, target.ns(), name, &options)?;
        Ok(reply::json(201, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
    }

    /// The container that the query names, or the only one.
    fn container(&self, target: &Target, request: &Request) -> Result<(std::sync::Arc<Value>, String), Failure> {
        let name = target.name.as_deref().unwrap_or_default();
        let pod = self.store.get(&PODS, target.ns(), name).ok_or_else(|| Failure::not_found(&PODS, name))?;
        let names = |list: &str| -> Vec<String> {
            let containers = pod["spec"].get(list).and_then(Value::as_array).into_iter().flatten();
            containers.filter_map(|container| container["name"].as_str()).map(str::to_owned).collect()
        };
        let main = names("containers");
        let all = [main.clone(), names("initContainers"), names("ephemeralContainers")].concat();
        match request.query.get("container").filter(|container| !container.is_empty()) {
            Some(asked) if all.iter().any(|name| name == asked) => Ok((pod.clone(), asked.to_owned())),
            Some(asked) => Err(Failure::bad_request(format!("container {asked} is not valid for pod {name}"))),
            None => match &main[..] {
                [only] => Ok((pod.clone(), only.clone())),
                _ => {
                    let list = main.join(" ");
                    let message = format!("a container name must be specified for pod {name}, choose one of: [{list}]");
                    Err(Failure::bad_request(message))
                }
            },
        }
    }
}

/// Refuses the log of a container that has not started yet, in the words that people search for.
fn waiting(pod: &Value, container: &str, options: &LogOptions) -> Result<(), Failure> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut statuses = lists.iter().filter_map(|list| pod["status"].get(*list)).filter_map(Value::as_array).flatten();
    let status = statuses.find(|status| status["name"] == container);
    let name = text(pod, "name");
    match status {
        Some(status) if options.previous && !status["lastState"]["terminated"].is_object() => {
            Err(Failure::bad_request(format!("previous terminated container \"{container}\" in pod \"{name}\" not found")))
        }
        Some(status) => match status["state"]["waiting"]["reason"].as_str() {
            Some(reason) if !options.previous && !status["lastState"]["terminated"].is_object() => {
                Err(Failure::bad_request(format!(
                    "container \"{container}\" in pod \"{name}\" is waiting to start: {}",
                    if reason == "ContainerCreating" {
                        reason.to_owned()
                    } else {
                        status["state"]["waiting"]["message"].as_str().unwrap_or(reason).to_owned()
                    }
                )))
            }
            _ => Ok(()),
        },
        None if pod["status"]["phase"] == "Pending" => {
            Err(Failure::bad_request(format!("container \"{container}\" in pod \"{name}\" is waiting to start: ContainerCreating")))
        }
        None => Ok(()),
    }
}

/// Copies between a client and a container until either ends.
async fn converse<S>(socket: WebSocketStream<S>, attached: Attached, mut stop: signal::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut to_client, mut from_client) = socket.split();
    let Attached { mut stdin, mut output } = attached;
    let status = loop {
        tokio::select! {
            chunk = output.next() => match chunk {
                Some(Ok(chunk)) => {
                    let framed: Bytes = [&[STDOUT][..], &chunk].concat().into();
                    if to_client.send(Message::Binary(framed)).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => break failed(&error),
                None => break json!({"metadata": {}, "status": "Success"}),
            },
            message = from_client.next() => match message {
                Some(Ok(Message::Binary(data))) => match data.split_first() {
                    Some((&STDIN, bytes)) => {
                        if let Some(pipe) = &mut stdin
                            && pipe.write_all(bytes).await.is_err()
                        {
                            // The container no longer reads; what it still says is worth hearing.
                            stdin = None;
                        }
                    }
                    Some((&CLOSE, [STDIN])) => end(&mut stdin).await,
                    _ => {}
                },
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => {
                    end(&mut stdin).await;
                    return;
                }
                Some(Ok(_)) => {}
            },
            _ = stop.changed() => {
                end(&mut stdin).await;
                return;
            }
        }
    };
    let framed: Bytes = [&[ERROR][..], status.to_string().as_bytes()].concat().into();
    // The container has ended; if the client is gone, too, there is nobody left to tell.
    if to_client.send(Message::Binary(framed)).await.is_ok() {
        _ = to_client.close().await;
    }
}

fn failed(error: &io::Error) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": error.to_string(), "code": 500})
}

/// Lets the container see the end of its input.
async fn end(stdin: &mut Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>) {
    if let Some(mut pipe) = stdin.take() {
        _ = pipe.shutdown().await;
    }
}
