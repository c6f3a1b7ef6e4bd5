//! Compares the charging model with independently computed values (exact rationals and 40-digit arithmetic).

use domain::battery::{Battery, CurvePoint, MeasuredCurve, ModelConfig, Occupant, StationRun, TwoStageLinear};
use domain::units::WattHours;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/charging-golden.json")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn assert_close(actual: f64, expected: f64, what: &str) {
    let scale = expected.abs().max(1.0);
    assert!((actual - expected).abs() <= 1e-9 * scale, "{what}: {actual} is not {expected}");
}

#[test]
fn step_taper_and_shared_power() {
    let model = ModelConfig::StepTaper;
    let golden = golden();
    let cases = golden["stepTaper"].as_array().unwrap();
    assert_eq!(cases.len(), 26);
    for case in cases {
        let name = format!("{} after {} min", case["name"], case["minutes"]);
        let occupants: Vec<Occupant<'_>> = case["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|session| {
                let limit = |key: &str| session[key].as_f64().unwrap_or(f64::INFINITY);
                Occupant {
                    present_from: 0.0,
                    advanced_to: 0.0,
                    battery: Battery {
                        capacity_kwh: number(&session["batteryCapacityKwh"]),
                        percent: number(&session["chargePercent"]),
                        stop_percent: session["targetPercent"].as_f64().unwrap_or(100.0),
                    },
                    limit_kw: limit("portMaxKw").min(limit("vehicleMaxKw")),
                    vehicle_max_kw: limit("vehicleMaxKw"),
                    model: &model,
                }
            })
            .collect();
        let batteries: Vec<Battery> = occupants.iter().map(|occupant| occupant.battery).collect();
        let advances =
            StationRun::new(number(&case["stationPowerKw"]), occupants).advance(number(&case["minutes"]) / 60.0);
        for ((advance, battery), expected) in advances.iter().zip(batteries).zip(case["expect"].as_array().unwrap()) {
            let kwh = (advance.percent - battery.percent) * battery.capacity_kwh / 100.0;
            assert_close(advance.percent, number(&expected["chargePercent"]), &name);
            assert_close(kwh, number(&expected["energyKwh"]), &name);
            assert_eq!(WattHours::register(kwh).0, expected["wattHours"].as_u64().unwrap(), "{name}");
            match (advance.ended_at, expected["endedAtMinute"].as_f64()) {
                (Some(hours), Some(minutes)) => assert_close(hours * 60.0, minutes, &name),
                (None, None) => {}
                (actual, expected) => {
                    panic!("{name}: ended at {actual:?} h, not at {expected:?} min")
                }
            }
        }
    }
}

#[test]
fn two_stage_linear() {
    // The golden values come from the bare formula, without the cut-off that ends its approach to 100 %.
    let model = ModelConfig::TwoStageLinear(TwoStageLinear { transition_percent: 80.0, cutoff_kw: 0.0 });
    for case in golden()["twoStageLinear"].as_array().unwrap() {
        let mut battery = Battery {
            capacity_kwh: number(&case["batteryCapacityKwh"]),
            percent: number(&case["chargePercent"]),
            stop_percent: 100.0,
        };
        let vehicle = model.for_vehicle(number(&case["vehicleMaxKw"]));
        battery.charge(&vehicle, number(&case["offeredKw"]), number(&case["minutes"]) / 60.0);
        assert_close(battery.percent, number(&case["expectChargePercent"]), &case.to_string());
    }
}

#[test]
fn two_stage_linear_ends_at_its_cut_off_power() {
    let model = ModelConfig::TwoStageLinear(TwoStageLinear { transition_percent: 80.0, cutoff_kw: 1.5 });
    let mut battery = Battery { capacity_kwh: 60.0, percent: 50.0, stop_percent: 100.0 };
    battery.charge(&model.for_vehicle(150.0), 50.0, 100.0);
    // 150 kW * (100 - s) / 20 = 1.5 kW
    assert_close(battery.percent, 99.8, "state of charge at the cut-off");
}

#[test]
fn measured_curve() {
    for case in golden()["measuredCurve"].as_array().unwrap() {
        let points = case["points"].as_array().unwrap().iter();
        let points = points.map(|point| CurvePoint { percent: number(&point[0]), power_kw: number(&point[1]) });
        let model = ModelConfig::MeasuredCurve(MeasuredCurve { points: points.collect() });
        let battery = Battery {
            capacity_kwh: number(&case["batteryCapacityKwh"]),
            percent: number(&case["fromPercent"]),
            stop_percent: number(&case["toPercent"]),
        };
        let hours = battery.hours_to_end(&model.for_vehicle(1000.0), 1000.0);
        assert_close(hours * 60.0, number(&case["expectMinutes"]), &case.to_string());
    }
}

#[test]
fn a_measured_curve_caps_the_offered_power() {
    let points = [(0.0, 50.0), (100.0, 10.0)].map(|(percent, power_kw)| CurvePoint { percent, power_kw });
    let model = ModelConfig::MeasuredCurve(MeasuredCurve { points: points.to_vec() });
    let battery = Battery { capacity_kwh: 100.0, percent: 0.0, stop_percent: 50.0 };
    // 30 kW flow up to 50 %, where the curve falls to 30 kW: 50 kWh in 100 minutes.
    assert_close(battery.hours_to_end(&model.for_vehicle(1000.0), 30.0) * 60.0, 100.0, "minutes to 50 %");
}
