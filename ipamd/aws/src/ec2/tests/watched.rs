// SPDX-License-Identifier: Apache-2.0
//! What a watcher is told: every call once, with its end; what EC2 and our own bucket hold back.

use super::*;
use crate::watch::{By, End, Watch};

/// Writes down all that it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Watch for Told {
    fn ended(&self, action: &str, end: &End<'_>) {
        let class = end.failure.map(|failure| failure.class);
        self.0.lock().unwrap().push(format!("{action} {class:?} {:?}", end.status));
    }

    fn held_back(&self, action: &str, by: By) {
        self.0.lock().unwrap().push(format!("{action} held back by {by:?}"));
    }
}

const SUBNET: &[(&str, &str)] =
    &[("Filter.1.Name", "subnet-id"), ("Filter.1.Value.1", "subnet-1"), ("MaxResults", "1000")];

#[tokio::test]
async fn each_call_is_told_once_with_its_end_and_a_call_that_is_thrown_out_as_held_back_too() {
    let told = Arc::new(Told::default());
    let delete = [("NetworkInterfaceId", "eni-1")];
    let steps = vec![
        ok("DeleteNetworkInterface", &delete, "<return>true</return>"),
        // A call that the client repeats by itself is one call.
        error("DeleteNetworkInterface", &delete, (500, "InternalError", "an internal error has occurred")),
        ok("DeleteNetworkInterface", &delete, "<return>true</return>"),
        error("DescribeSubnets", SUBNET, (503, "RequestLimitExceeded", "Request limit exceeded.")),
    ];
    let bench = Bench::watched(steps, Duration::from_secs(10), Some(told.clone())).await;
    for _ in 0..2 {
        assert!(matches!(bench.run(ActionKind::DeleteEni { eni_id: "eni-1".into() }).await, Outcome::Done));
    }
    let thrown_out = failure(bench.run(ActionKind::DescribeSubnets(SubnetQuery::Id("subnet-1".into()))).await);
    assert_eq!(thrown_out.class, FailureClass::Throttled);
    let wanted = [
        "DeleteNetworkInterface None Some(200)",
        "DeleteNetworkInterface None Some(200)",
        "DescribeSubnets held back by Ec2",
        "DescribeSubnets Some(Throttled) Some(503)",
    ];
    assert_eq!(*told.0.lock().unwrap(), wanted);
    bench.finish();
}

#[tokio::test]
async fn a_call_without_an_answer_has_no_status() {
    let told = Arc::new(Told::default());
    let slow = Step { delay: Duration::from_secs(5), ..ok("DetachNetworkInterface", &[("AttachmentId", "a")], "") };
    let bench = Bench::watched(vec![slow], Duration::from_millis(200), Some(told.clone())).await;
    let kind = ActionKind::DetachEni { eni_id: "eni-1".into(), attachment_id: "a".into() };
    assert_eq!(failure(bench.run(kind).await).class, FailureClass::Unknown);
    assert_eq!(*told.0.lock().unwrap(), ["DetachNetworkInterface Some(Unknown) None"]);
}

#[tokio::test]
async fn what_our_own_bucket_does_not_let_leave_is_held_back_and_no_call() {
    let told = Arc::new(Told::default());
    let bench = Bench::watched(Vec::new(), Duration::from_secs(1), Some(told.clone())).await;
    let throttle = &bench.ec2.throttle;
    while throttle.turn("DescribeSubnets", Priority::Describe).await.is_ok_and(|()| told.0.lock().unwrap().is_empty()) {
    }
    assert_eq!(told.0.lock().unwrap().first().map(String::as_str), Some("DescribeSubnets held back by Bucket"));
    bench.finish();
}
