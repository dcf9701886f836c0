use super::{h2load_says, wrk_says};

const WRK: &str = "\
Running 3s test @ http://10.96.0.10:8001/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.85ms    1.02ms  24.32ms   95.14%
    Req/Sec    41.50k     2.11k   44.20k    76.67%
  123870 requests in 3.00s, 17.18MB read
Requests/sec:  41289.77
Transfer/sec:      5.73MB
";

const H2LOAD: &str = "\
starting benchmark...
finished in 3.00s, 30123.33 req/s, 3.39MB/s
requests: 90370 total, 90434 started, 90370 done, 90370 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 90370 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 10.17MB (10664396) total
";

#[test]
fn both_tell_answers() {
    assert_eq!(wrk_says(WRK).unwrap(), 123_870);
    assert_eq!(h2load_says(H2LOAD).unwrap(), 90_370);
}

#[test]
fn what_went_wrong_is_an_error() {
    for trouble in [
        "  Socket errors: connect 0, read 12, write 0, timeout 0\n",
        "  Non-2xx or 3xx responses: 7\n",
    ] {
        assert!(wrk_says(&format!("{WRK}{trouble}")).is_err(), "{trouble}");
    }
    assert!(wrk_says("").is_err());
    for (right, wrong) in
        [("0 failed", "3 failed"), ("0 4xx", "1 4xx"), ("90370 2xx", "0 2xx"), ("status", "")]
    {
        assert!(h2load_says(&H2LOAD.replace(right, wrong)).is_err(), "{wrong}");
    }
}
