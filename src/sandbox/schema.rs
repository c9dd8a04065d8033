//! The shape of every object that is served, as one table of types. It finds unknown fields and wrong types, tells strategic merge and
//! server-side apply which lists are keyed, and becomes the OpenAPI document that `kubectl` asks for.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a field holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Shape {
    Text,
    Int32,
    Int64,
    Bool,
    /// A number or a text, kept as it is: `IntOrString`.
    NumberOrText,
    /// A number or a text that is kept as the text of a [quantity](super::quantity).
    Quantity,
    /// Anything: parts that the sandbox keeps without looking at them.
    Any,
    Struct(&'static str),
    Map(Box<Shape>),
    List(Box<Shape>, Keys),
}

/// How the elements of a list are told apart when it is merged.
#[derive(Clone, PartialEq, Debug)]
pub enum Keys {
    /// They are not: the list is replaced as a whole.
    Atomic,
    /// They are texts, each at most once.
    Set,
    /// By these fields; a strategic merge patch uses the first of them only.
    By(Vec<&'static str>),
}

/// The fields of a struct, by name.
pub type Fields = BTreeMap<&'static str, Shape>;

/// The fields of `name`; `None` when there is no such struct.
pub fn fields(name: &str) -> Option<&'static Fields> {
    TYPES.get(name)
}

/// Every struct, by name.
pub fn all() -> &'static BTreeMap<&'static str, Fields> {
    &TYPES
}

static TYPES: LazyLock<BTreeMap<&'static str, Fields>> = LazyLock::new(|| {
    let lines = TABLE.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut types: BTreeMap<&'static str, Fields> = BTreeMap::new();
    let mut latest = "";
    for line in lines {
        // A line without a colon after its first word goes on with the type before it.
        let rest = match line.split_once(':') {
            Some((name, rest)) => {
                latest = name;
                rest
            }
            None => line,
        };
        let fields = types.entry(latest).or_default();
        for field in rest.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (name, shape) = field.split_once(' ').expect("every field of the table is a name, a space and a shape");
            fields.insert(name, shape_of(shape));
        }
    }
    types
});

fn shape_of(text: &'static str) -> Shape {
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return Shape::Map(Box::new(shape_of(inner)));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return match inner.split_once('/') {
            None => Shape::List(Box::new(shape_of(inner)), Keys::Atomic),
            Some((of, "")) => Shape::List(Box::new(shape_of(of)), Keys::Set),
            Some((of, keys)) => Shape::List(Box::new(shape_of(of)), Keys::By(keys.split('+').collect())),
        };
    }
    match text {
        "s" => Shape::Text,
        "i" => Shape::Int32,
        "l" => Shape::Int64,
        "b" => Shape::Bool,
        "n" => Shape::NumberOrText,
        "q" => Shape::Quantity,
        "o" => Shape::Any,
        name => Shape::Struct(name),
    }
}

/// `Type: field shape, field shape`. Shapes: `s` text, `i` int32, `l` int64, `b` bool, `n` number or text, `q` quantity, `o` anything,
/// a type's name, `{shape}` a map, `[shape]` a list that is replaced whole, `[shape/]` a set, `[shape/a+b]` a list keyed by a and b.
const TABLE: &str = "
ObjectMeta: name s, generateName s, namespace s, selfLink s, uid s, resourceVersion s, generation l, creationTimestamp s
  deletionTimestamp s, deletionGracePeriodSeconds l, labels {s}, annotations {s}, ownerReferences [OwnerReference/uid], finalizers [s/]
  managedFields [o]
OwnerReference: apiVersion s, kind s, name s, uid s, controller b, blockOwnerDeletion b
ObjectReference: kind s, namespace s, name s, uid s, apiVersion s, resourceVersion s, fieldPath s
LocalObjectReference: name s
LabelSelector: matchLabels {s}, matchExpressions [LabelSelectorRequirement]
LabelSelectorRequirement: key s, operator s, values [s]
Condition: type s, status s, observedGeneration l, lastUpdateTime s, lastTransitionTime s, lastProbeTime s, lastHeartbeatTime s
  reason s, message s

ConfigMap: apiVersion s, kind s, metadata ObjectMeta, data {s}, binaryData {s}, immutable b
Secret: apiVersion s, kind s, metadata ObjectMeta, data {s}, stringData {s}, type s, immutable b
ServiceAccount: apiVersion s, kind s, metadata ObjectMeta, secrets [ObjectReference/name], imagePullSecrets [LocalObjectReference/name]
  automountServiceAccountToken b
Endpoints: apiVersion s, kind s, metadata ObjectMeta, subsets [o]
Event: apiVersion s, kind s, metadata ObjectMeta, involvedObject ObjectReference, reason s, message s, source EventSource
  firstTimestamp s, lastTimestamp s, count i, type s, eventTime s, series EventSeries, action s, related ObjectReference
  reportingComponent s, reportingInstance s
EventSource: component s, host s
EventSeries: count i, lastObservedTime s

Namespace: apiVersion s, kind s, metadata ObjectMeta, spec NamespaceSpec, status NamespaceStatus
NamespaceSpec: finalizers [s]
NamespaceStatus: phase s, conditions [Condition/type]

Node: apiVersion s, kind s, metadata ObjectMeta, spec NodeSpec, status NodeStatus
NodeSpec: podCIDR s, podCIDRs [s/], providerID s, unschedulable b, taints [Taint], configSource o, externalID s
Taint: key s, value s, effect s, timeAdded s
NodeStatus: capacity {q}, allocatable {q}, phase s, conditions [Condition/type], addresses [NodeAddress/type], daemonEndpoints o
  nodeInfo {s}, images [o], volumesInUse [s], volumesAttached [o], config o, runtimeHandlers [o], features o, declaredFeatures [s]
NodeAddress: type s, address s

Pod: apiVersion s, kind s, metadata ObjectMeta, spec PodSpec, status PodStatus
PodTemplateSpec: metadata ObjectMeta, spec PodSpec
PodSpec: volumes [Volume/name], initContainers [Container/name], containers [Container/name]
  ephemeralContainers [EphemeralContainer/name], restartPolicy s, terminationGracePeriodSeconds l, activeDeadlineSeconds l, dnsPolicy s
  nodeSelector {s}, serviceAccountName s, serviceAccount s, automountServiceAccountToken b, nodeName s, hostNetwork b, hostPID b
  hostIPC b, shareProcessNamespace b, securityContext o, imagePullSecrets [LocalObjectReference/name], hostname s, subdomain s
  affinity o, schedulerName s, tolerations [Toleration], hostAliases [HostAlias/ip], priorityClassName s, priority i, dnsConfig o
  readinessGates [PodReadinessGate], runtimeClassName s, enableServiceLinks b, preemptionPolicy s, overhead {q}
  topologySpreadConstraints [TopologySpreadConstraint/topologyKey+whenUnsatisfiable], setHostnameAsFQDN b, os o, hostUsers b
  schedulingGates [PodSchedulingGate/name], resourceClaims [PodResourceClaim/name], resources ResourceRequirements, hostnameOverride s
PodReadinessGate: conditionType s
PodSchedulingGate: name s
PodResourceClaim: name s, resourceClaimName s, resourceClaimTemplateName s
TopologySpreadConstraint: maxSkew i, topologyKey s, whenUnsatisfiable s, labelSelector LabelSelector, minDomains i
  nodeAffinityPolicy s, nodeTaintsPolicy s, matchLabelKeys [s]
Toleration: key s, operator s, value s, effect s, tolerationSeconds l
HostAlias: ip s, hostnames [s]
Volume: name s, hostPath o, emptyDir o, gcePersistentDisk o, awsElasticBlockStore o, gitRepo o, secret o, nfs o, iscsi o, glusterfs o
  persistentVolumeClaim o, rbd o, flexVolume o, cinder o, cephfs o, flocker o, downwardAPI o, fc o, azureFile o, configMap o
  vsphereVolume o, quobyte o, azureDisk o, photonPersistentDisk o, projected o, portworxVolume o, scaleIO o, storageos o, csi o
  ephemeral o, image o
Container: name s, image s, command [s], args [s], workingDir s, ports [ContainerPort/containerPort+protocol], envFrom [EnvFromSource]
  env [EnvVar/name], resources ResourceRequirements, resizePolicy [ContainerResizePolicy], restartPolicy s, restartPolicyRules [o]
  volumeMounts [VolumeMount/mountPath], volumeDevices [VolumeDevice/devicePath], livenessProbe Probe, readinessProbe Probe
  startupProbe Probe, lifecycle Lifecycle, terminationMessagePath s, terminationMessagePolicy s, imagePullPolicy s, securityContext o
  stdin b, stdinOnce b, tty b
EphemeralContainer: name s, image s, command [s], args [s], workingDir s, ports [ContainerPort/containerPort+protocol]
  envFrom [EnvFromSource], env [EnvVar/name], resources ResourceRequirements, resizePolicy [ContainerResizePolicy], restartPolicy s
  restartPolicyRules [o], volumeMounts [VolumeMount/mountPath], volumeDevices [VolumeDevice/devicePath], livenessProbe Probe
  readinessProbe Probe, startupProbe Probe, lifecycle Lifecycle, terminationMessagePath s, terminationMessagePolicy s
  imagePullPolicy s, securityContext o, stdin b, stdinOnce b, tty b, targetContainerName s
ContainerPort: name s, hostPort i, containerPort i, protocol s, hostIP s
ContainerResizePolicy: resourceName s, restartPolicy s
EnvFromSource: prefix s, configMapRef o, secretRef o
EnvVar: name s, value s, valueFrom EnvVarSource
EnvVarSource: fieldRef ObjectFieldSelector, resourceFieldRef ResourceFieldSelector, configMapKeyRef KeySelector
  secretKeyRef KeySelector, fileKeyRef o
ObjectFieldSelector: apiVersion s, fieldPath s
ResourceFieldSelector: containerName s, resource s, divisor q
KeySelector: name s, key s, optional b
ResourceRequirements: limits {q}, requests {q}, claims [o/name]
VolumeMount: name s, readOnly b, recursiveReadOnly s, mountPath s, subPath s, mountPropagation s, subPathExpr s
VolumeDevice: name s, devicePath s
Probe: exec ExecAction, httpGet HTTPGetAction, tcpSocket TCPSocketAction, grpc GRPCAction, initialDelaySeconds i, timeoutSeconds i
  periodSeconds i, successThreshold i, failureThreshold i, terminationGracePeriodSeconds l
ExecAction: command [s]
HTTPGetAction: path s, port n, host s, scheme s, httpHeaders [HTTPHeader]
HTTPHeader: name s, value s
TCPSocketAction: port n, host s
GRPCAction: port i, service s
Lifecycle: postStart LifecycleHandler, preStop LifecycleHandler, stopSignal s
LifecycleHandler: exec ExecAction, httpGet HTTPGetAction, tcpSocket TCPSocketAction, sleep SleepAction
SleepAction: seconds l
PodStatus: observedGeneration l, phase s, conditions [Condition/type], message s, reason s, nominatedNodeName s, hostIP s
  hostIPs [o], podIP s, podIPs [PodIP/ip], startTime s, initContainerStatuses [ContainerStatus], containerStatuses [ContainerStatus]
  qosClass s, ephemeralContainerStatuses [ContainerStatus], resize s, resourceClaimStatuses [o], allocatedResources {q}
  resources ResourceRequirements
PodIP: ip s
ContainerStatus: name s, state ContainerState, lastState ContainerState, ready b, restartCount i, image s, imageID s, containerID s
  started b, allocatedResources {q}, resources ResourceRequirements, volumeMounts [o/mountPath], user o, stopSignal s
  allocatedResourcesStatus [o]
ContainerState: waiting ContainerStateWaiting, running ContainerStateRunning, terminated ContainerStateTerminated
ContainerStateWaiting: reason s, message s
ContainerStateRunning: startedAt s
ContainerStateTerminated: exitCode i, signal i, reason s, message s, startedAt s, finishedAt s, containerID s

Service: apiVersion s, kind s, metadata ObjectMeta, spec ServiceSpec, status ServiceStatus
ServiceSpec: ports [ServicePort/port+protocol], selector {s}, clusterIP s, clusterIPs [s], type s, externalIPs [s], sessionAffinity s
  loadBalancerIP s, loadBalancerSourceRanges [s], externalName s, externalTrafficPolicy s, healthCheckNodePort i
  publishNotReadyAddresses b, sessionAffinityConfig o, ipFamilies [s], ipFamilyPolicy s, allocateLoadBalancerNodePorts b
  loadBalancerClass s, internalTrafficPolicy s, trafficDistribution s
ServicePort: name s, protocol s, appProtocol s, port i, targetPort n, nodePort i
ServiceStatus: loadBalancer o, conditions [Condition/type]

Deployment: apiVersion s, kind s, metadata ObjectMeta, spec DeploymentSpec, status DeploymentStatus
DeploymentSpec: replicas i, selector LabelSelector, template PodTemplateSpec, strategy DeploymentStrategy, minReadySeconds i
  revisionHistoryLimit i, paused b, progressDeadlineSeconds i
DeploymentStrategy: type s, rollingUpdate RollingUpdateDeployment
RollingUpdateDeployment: maxUnavailable n, maxSurge n
DeploymentStatus: observedGeneration l, replicas i, updatedReplicas i, readyReplicas i, availableReplicas i, unavailableReplicas i
  terminatingReplicas i, conditions [Condition/type], collisionCount i
ReplicaSet: apiVersion s, kind s, metadata ObjectMeta, spec ReplicaSetSpec, status ReplicaSetStatus
ReplicaSetSpec: replicas i, minReadySeconds i, selector LabelSelector, template PodTemplateSpec
ReplicaSetStatus: replicas i, fullyLabeledReplicas i, readyReplicas i, availableReplicas i, terminatingReplicas i
  observedGeneration l, conditions [Condition/type]
StatefulSet: apiVersion s, kind s, metadata ObjectMeta, spec StatefulSetSpec, status StatefulSetStatus
StatefulSetSpec: replicas i, selector LabelSelector, template PodTemplateSpec, volumeClaimTemplates [o], serviceName s
  podManagementPolicy s, updateStrategy StatefulSetUpdateStrategy, revisionHistoryLimit i, minReadySeconds i
  persistentVolumeClaimRetentionPolicy StatefulSetPersistentVolumeClaimRetentionPolicy, ordinals StatefulSetOrdinals
StatefulSetUpdateStrategy: type s, rollingUpdate RollingUpdateStatefulSetStrategy
RollingUpdateStatefulSetStrategy: partition i, maxUnavailable n
StatefulSetPersistentVolumeClaimRetentionPolicy: whenDeleted s, whenScaled s
StatefulSetOrdinals: start i
StatefulSetStatus: observedGeneration l, replicas i, readyReplicas i, currentReplicas i, updatedReplicas i, currentRevision s
  updateRevision s, collisionCount i, conditions [Condition/type], availableReplicas i
ControllerRevision: apiVersion s, kind s, metadata ObjectMeta, data o, revision l
Scale: apiVersion s, kind s, metadata ObjectMeta, spec ScaleSpec, status ScaleStatus
ScaleSpec: replicas i
ScaleStatus: replicas i, selector s

HorizontalPodAutoscaler: apiVersion s, kind s, metadata ObjectMeta, spec HorizontalPodAutoscalerSpec
  status HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerSpec: scaleTargetRef CrossVersionObjectReference, minReplicas i, maxReplicas i, metrics [MetricSpec]
  behavior HorizontalPodAutoscalerBehavior
CrossVersionObjectReference: kind s, name s, apiVersion s
MetricSpec: type s, object ObjectMetricSource, pods PodsMetricSource, resource ResourceMetricSource
  containerResource ContainerResourceMetricSource, external ExternalMetricSource
ObjectMetricSource: describedObject CrossVersionObjectReference, target MetricTarget, metric MetricIdentifier
PodsMetricSource: metric MetricIdentifier, target MetricTarget
ResourceMetricSource: name s, target MetricTarget
ContainerResourceMetricSource: name s, target MetricTarget, container s
ExternalMetricSource: metric MetricIdentifier, target MetricTarget
MetricIdentifier: name s, selector LabelSelector
MetricTarget: type s, value q, averageValue q, averageUtilization i
HorizontalPodAutoscalerBehavior: scaleUp HPAScalingRules, scaleDown HPAScalingRules
HPAScalingRules: stabilizationWindowSeconds i, selectPolicy s, policies [HPAScalingPolicy], tolerance q
HPAScalingPolicy: type s, value i, periodSeconds i
HorizontalPodAutoscalerStatus: observedGeneration l, lastScaleTime s, currentReplicas i, desiredReplicas i, currentMetrics [o]
  conditions [Condition/type]

Job: apiVersion s, kind s, metadata ObjectMeta, spec JobSpec, status JobStatus
JobSpec: parallelism i, completions i, activeDeadlineSeconds l, podFailurePolicy o, successPolicy o, backoffLimit i
  backoffLimitPerIndex i, maxFailedIndexes i, selector LabelSelector, manualSelector b, template PodTemplateSpec
  ttlSecondsAfterFinished i, completionMode s, suspend b, podReplacementPolicy s, managedBy s
JobStatus: conditions [Condition], startTime s, completionTime s, active i, succeeded i, failed i, terminating i, completedIndexes s
  failedIndexes s, uncountedTerminatedPods UncountedTerminatedPods, ready i
UncountedTerminatedPods: succeeded [s/], failed [s/]

Lease: apiVersion s, kind s, metadata ObjectMeta, spec LeaseSpec
LeaseSpec: holderIdentity s, leaseDurationSeconds i, acquireTime s, renewTime s, leaseTransitions i, strategy s, preferredHolder s
EndpointSlice: apiVersion s, kind s, metadata ObjectMeta, addressType s, endpoints [Endpoint], ports [EndpointPort]
Endpoint: addresses [s/], conditions EndpointConditions, hostname s, targetRef ObjectReference, deprecatedTopology {s}, nodeName s
  zone s, hints o
EndpointConditions: ready b, serving b, terminating b
EndpointPort: name s, protocol s, port i, appProtocol s
PodDisruptionBudget: apiVersion s, kind s, metadata ObjectMeta, spec PodDisruptionBudgetSpec, status PodDisruptionBudgetStatus
PodDisruptionBudgetSpec: minAvailable n, selector LabelSelector, maxUnavailable n, unhealthyPodEvictionPolicy s
PodDisruptionBudgetStatus: observedGeneration l, disruptedPods {s}, disruptionsAllowed i, currentHealthy i, desiredHealthy i
  expectedPods i, conditions [Condition/type]
ScaledObject: apiVersion s, kind s, metadata ObjectMeta, spec ScaledObjectSpec, status ScaledObjectStatus
ScaledObjectSpec: scaleTargetRef ScaleTarget, pollingInterval i, initialCooldownPeriod i, cooldownPeriod i, idleReplicaCount i
  minReplicaCount i, maxReplicaCount i, advanced AdvancedConfig, triggers [ScaleTriggers], fallback Fallback
ScaleTarget: name s, apiVersion s, kind s, envSourceContainerName s
AdvancedConfig: horizontalPodAutoscalerConfig HorizontalPodAutoscalerConfig, restoreToOriginalReplicaCount b, scalingModifiers o
HorizontalPodAutoscalerConfig: behavior HorizontalPodAutoscalerBehavior, name s
ScaleTriggers: type s, name s, useCachedMetrics b, metadata {s}, authenticationRef o, metricType s
Fallback: failureThreshold i, replicas i, behavior s
ScaledObjectStatus: scaleTargetKind s, scaleTargetGVKR GroupVersionKindResource, originalReplicaCount i, lastActiveTime s
  externalMetricNames [s], resourceMetricNames [s], compositeScalerName s, conditions [Condition], health {HealthStatus}
  pausedReplicaCount i, hpaName s, triggersTypes s, authenticationsTypes s
GroupVersionKindResource: group s, version s, kind s, resource s
HealthStatus: numberOfFailures i, status s
Eviction: apiVersion s, kind s, metadata ObjectMeta, deleteOptions DeleteOptions
DeleteOptions: apiVersion s, kind s, gracePeriodSeconds l, preconditions Preconditions, orphanDependents b, propagationPolicy s
  dryRun [s], ignoreStoreReadErrorWithClusterBreakingPotential b
Preconditions: uid s, resourceVersion s
SelfSubjectAccessReview: apiVersion s, kind s, metadata ObjectMeta, spec o, status o
SelfSubjectRulesReview: apiVersion s, kind s, metadata ObjectMeta, spec o, status o
";

#[cfg(test)]
mod tests {
    use super::super::resource::RESOURCES;
    use super::*;

    #[test]
    fn every_name_in_the_table_is_a_type_and_every_resource_has_one() {
        fn check(shape: &Shape) {
            match shape {
                Shape::Struct(name) => assert!(fields(name).is_some(), "{name} is used and not described"),
                Shape::Map(inner) => check(inner),
                Shape::List(inner, keys) => {
                    check(inner);
                    if let (Keys::By(keys), Shape::Struct(name)) = (keys, &**inner) {
                        for key in keys {
                            assert!(fields(name).is_some_and(|fields| fields.contains_key(key)), "{name} has no {key}");
                        }
                    }
                }
                _ => {}
            }
        }
        all().values().flat_map(|fields| fields.values()).for_each(check);
        for resource in RESOURCES {
            assert!(fields(resource.kind).is_some(), "{} is served and not described", resource.kind);
        }
    }
}
